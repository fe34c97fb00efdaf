/**
 * The part of undici that is used, loaded alone: its main module also loads fetch, WebSocket, caches and mocks, which
 * takes 190 ms of CPU time where this takes 55 (measured on Node 20), longer than all else of a warm start.
 *
 * These are paths inside of the package, so package.json holds undici to one minor version; http-client.test.ts goes
 * through all of them.
 */
import { createRequire } from 'node:module';
import type { Agent, Dispatcher, EnvHttpProxyAgent } from 'undici';

const load = createRequire(import.meta.url);
const AgentClass = load('undici/lib/dispatcher/agent.js') as typeof Agent;
const DispatcherClass = load('undici/lib/dispatcher/dispatcher.js') as typeof Dispatcher;
// As undici's index.js does it: request() and its like are methods of every dispatcher.
Object.assign(DispatcherClass.prototype, load('undici/lib/api/index.js'));

export function createAgent(options: Agent.Options): Dispatcher {
  return new AgentClass(options);
}

export function createProxyAgent(options: EnvHttpProxyAgent.Options): Dispatcher {
  const ProxyAgentClass = load('undici/lib/dispatcher/env-http-proxy-agent.js') as typeof EnvHttpProxyAgent;
  return new ProxyAgentClass(options);
}
