/**
 * What Prometheus gets of the registry: numbers by route, status and kind, and no names of repositories, users or
 * clients. Counters begin anew with each process.
 */
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { httpUrl } from '../http-url.js';
import { Histogram } from '../telemetry/histogram.js';
import { METRICS_TYPE, Metrics } from '../telemetry/metrics.js';
import type { Expansion } from './expansion/expansion.js';
import { RegistryError } from './registry-error.js';

const MAX_CONNECTIONS = 64;
const HEADERS_MS = 10_000;

/** By what stands in the route; the first that fits. */
const KINDS = [
  ['/blobs/uploads', 'upload'],
  ['/blobs/', 'blob'],
  ['/manifests/', 'manifest'],
  ['/teleport/v1/', 'layer'],
  ['/mount/v1/', 'mount'],
] as const;

interface RouteMeter {
  route: string;
  /** By status; `aborted` when the client went away before the answer's end. */
  answers: Map<string, number>;
  seconds: Histogram;
}

export class RegistryMetrics {
  readonly #routes = new Map<string, RouteMeter>();
  readonly #sent = new Map<string, number>();
  readonly #startedAt = Date.now();
  #inFlight = 0;

  /** Counts the request when its answer has been sent or broken off, whoever sends it. */
  watch(request: FastifyRequest, reply: FastifyReply): void {
    const { socket } = request.raw;
    const { bytesWritten } = socket;
    const began = performance.now();
    this.#inFlight += 1;
    reply.raw.once('close', () => {
      this.#inFlight -= 1;
      const path = request.routeOptions.url ?? 'none';
      const meter = this.#meterOf(`${request.method} ${path}`);
      const status = reply.raw.writableFinished ? String(reply.raw.statusCode) : 'aborted';
      meter.answers.set(status, (meter.answers.get(status) ?? 0) + 1);
      meter.seconds.add(performance.now() - began);
      const kind = kindOf(path);
      const bytes = Math.max(0, socket.bytesWritten - bytesWritten);
      this.#sent.set(kind, (this.#sent.get(kind) ?? 0) + bytes);
    });
  }

  text(expansion: Expansion | undefined): string {
    const metrics = new Metrics();
    metrics.gauge('orca_registry_start_time_seconds', 'When the registry started.', this.#startedAt / 1000);
    metrics.gauge(
      'orca_registry_resident_memory_bytes',
      'Memory of the registry.',
      process.memoryUsage.rss(),
    );
    metrics.gauge('orca_registry_requests_in_flight', 'Requests that are being answered.', this.#inFlight);
    this.#addRequests(metrics);
    if (expansion !== undefined) addExpansion(metrics, expansion);
    return metrics.toString();
  }

  #addRequests(metrics: Metrics): void {
    for (const { route, answers } of this.#routes.values()) {
      for (const [status, count] of answers) {
        const help = 'Requests by method and route, and what they were answered.';
        metrics.counter('orca_registry_requests_total', help, count, { route, status });
      }
    }
    for (const { route, seconds } of this.#routes.values()) {
      const help = 'From the head of a request to the end of its answer.';
      metrics.histogram('orca_registry_request_seconds', help, seconds, { route });
    }
    for (const [kind, bytes] of this.#sent) {
      const help = 'Bytes sent by kind of what was asked for, with headers; layer: expanded ones by HTTPS.';
      metrics.counter('orca_registry_sent_bytes_total', help, bytes, { kind });
    }
  }

  #meterOf(route: string): RouteMeter {
    let meter = this.#routes.get(route);
    if (meter === undefined) {
      meter = { route, answers: new Map(), seconds: new Histogram() };
      this.#routes.set(route, meter);
    }
    return meter;
  }
}

function addExpansion(metrics: Metrics, expansion: Expansion): void {
  const { queued, expanding, results } = expansion.counts();
  const waiting = 'Images that wait for their expansion, or for another attempt.';
  metrics.gauge('orca_registry_expansion_queue_length', waiting, queued);
  metrics.gauge('orca_registry_expansions_in_progress', 'Images that are being expanded.', expanding);
  for (const [result, count] of Object.entries(results)) {
    const help = 'Attempts to expand an image: expanded, failed for good, or to be tried again.';
    metrics.counter('orca_registry_expansions_total', help, count, { result });
  }
}

function kindOf(path: string): string {
  return KINDS.find(([part]) => path.includes(part))?.[1] ?? 'other';
}

export interface MetricsServer {
  /** Of the metrics. */
  readonly url: string;
  close(): void;
}

/** Serves `GET /metrics` and nothing else. Throws RegistryError LISTEN. */
export async function serveMetrics(
  { host, port }: { host: string; port: number },
  text: () => string,
): Promise<MetricsServer> {
  const server = createServer(
    { headersTimeout: HEADERS_MS, requestTimeout: HEADERS_MS },
    (request, response) => {
      const isThere = request.url === '/metrics';
      const status = !isThere ? 404 : request.method === 'GET' ? 200 : 405;
      response.writeHead(status, { 'content-type': status === 200 ? METRICS_TYPE : 'text/plain' });
      response.end(status === 200 ? text() : '');
    },
  );
  server.maxConnections = MAX_CONNECTIONS;
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, host, resolve);
  }).catch((cause: Error) => {
    throw new RegistryError('LISTEN', `--metrics ${host}:${port}: ${cause.message}`, { cause });
  });
  return {
    url: `${httpUrl(server.address() as AddressInfo)}/metrics`,
    close: () => {
      server.close();
      server.closeAllConnections();
    },
  };
}
