/** What a kubelet asks of containerd: images, pods in the host's network, containers (cri.proto). */
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import {
  type Client,
  credentials,
  type GrpcObject,
  loadPackageDefinition,
  type ServiceClientConstructor,
  type ServiceError,
  status,
} from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';

const PROTO = fileURLToPath(new URL('../../../test/system/cri.proto', import.meta.url));
const EXEC_SECONDS = 120;
const CALL_MS = 300_000;
const START_TRIES = 300;
const START_PAUSE_MS = 100;

type Method = (
  request: object,
  options: { deadline: number },
  callback: (error: Error | null, answer: Record<string, unknown>) => void,
) => void;

export interface Pod {
  id: string;
  config: object;
}

export class CriClient {
  readonly #clients: Client[];

  constructor(socket: string) {
    const definition = loadPackageDefinition(
      loadSync(PROTO, { keepCase: true, longs: Number, defaults: true }),
    );
    const { v1 } = definition['runtime'] as { v1: GrpcObject };
    this.#clients = ['RuntimeService', 'ImageService'].map((name) => {
      const Service = v1[name] as ServiceClientConstructor;
      return new Service(`unix:${socket}`, credentials.createInsecure());
    });
  }

  async pull(image: string): Promise<void> {
    await this.#call('PullImage', { image: { image } });
  }

  async removeImage(image: string): Promise<void> {
    await this.#call('RemoveImage', { image: { image } });
  }

  /** In the network of the host, so that no CNI is needed. */
  async runPod(name: string, logs: string): Promise<Pod> {
    const config = {
      metadata: { name, uid: name, namespace: 'default' },
      log_directory: logs,
      linux: { security_context: { namespace_options: { network: 'NODE' } } },
    };
    const { pod_sandbox_id: id } = await this.#call('RunPodSandbox', { config });
    return { id: id as string, config };
  }

  /** Stops its containers, and removes it with them. */
  async removePod({ id }: Pod): Promise<void> {
    await this.#call('StopPodSandbox', { pod_sandbox_id: id });
    await this.#call('RemovePodSandbox', { pod_sandbox_id: id });
  }

  /** Gives the id of the container, which runs. */
  async startContainer(pod: Pod, name: string, image: string, command: readonly string[]): Promise<string> {
    const config = {
      metadata: { name },
      image: { image },
      command,
      log_path: `${name}.log`,
      linux: { security_context: { namespace_options: { network: 'NODE' } } },
    };
    const request = { pod_sandbox_id: pod.id, config, sandbox_config: pod.config };
    const { container_id } = await this.#call('CreateContainer', request);
    await this.#call('StartContainer', { container_id });
    return container_id as string;
  }

  /** What the command prints. Throws when it ends with another code than 0. */
  async exec(container: string, cmd: readonly string[]): Promise<string> {
    const request = { container_id: container, cmd, timeout: EXEC_SECONDS };
    const { stdout, stderr, exit_code: code } = await this.#call('ExecSync', request);
    if (code !== 0) throw new Error(`${cmd.join(' ')} ended with ${code}: ${String(stderr)}`);
    return String(stdout);
  }

  close(): void {
    for (const client of this.#clients) client.close();
  }

  /** A containerd that has just started serves the CRI a moment later. */
  async #call(method: string, request: object): Promise<Record<string, unknown>> {
    for (let tries = 1; ; tries++) {
      try {
        return await this.#callOnce(method, request);
      } catch (error) {
        const { code, details } = error as ServiceError;
        const isStarting = code === status.UNAVAILABLE || details === 'server is not initialized yet';
        if (!isStarting || tries === START_TRIES) throw error;
        await sleep(START_PAUSE_MS);
      }
    }
  }

  #callOnce(method: string, request: object): Promise<Record<string, unknown>> {
    const client = this.#clients.find((candidate) => method in candidate) as unknown as Record<
      string,
      Method
    >;
    return new Promise((resolve, reject) => {
      client[method]?.(request, { deadline: Date.now() + CALL_MS }, (error, answer) =>
        error === null ? resolve(answer) : reject(error),
      );
    });
  }
}
