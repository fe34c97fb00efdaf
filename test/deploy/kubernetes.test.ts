import { readFile } from 'node:fs/promises';
import test from 'ava';
import { parse as parseToml } from 'smol-toml';
import { parseAllDocuments } from 'yaml';
import { allCommands, commandTree } from '../../src/cli/command-tree.js';
import { createProgram } from '../../src/cli/program.js';
import { parseHostConfig } from '../../src/runtime/host-config.js';

interface Container {
  name: string;
  image: string;
  args: string[];
  restartPolicy?: string;
  livenessProbe?: object;
  securityContext: { privileged: boolean };
  volumeMounts: { name: string; mountPath: string; mountPropagation?: string }[];
}

interface Manifest {
  apiVersion: string;
  kind: string;
  metadata: { name: string; namespace?: string };
  data: Record<string, string>;
  handler: string;
  spec: {
    selector: { matchLabels: object };
    template: {
      metadata: { labels: object };
      spec: {
        initContainers: Container[];
        containers: Container[];
        volumes: { name: string; hostPath?: { path: string }; configMap?: { name: string } }[];
      };
    };
  };
}

const folder = 'deploy/kubernetes';
const SOCKET = '/run/orca/snapshotter.sock';
const documents = parseAllDocuments(await readFile(`${folder}/orca.yaml`, 'utf8'), { merge: false });
const manifests = new Map<string, Manifest>();
for (const document of documents) {
  const manifest = document.toJS() as Manifest;
  manifests.set(manifest.kind, manifest);
}
const daemons = manifests.get('DaemonSet')!.spec;
const pod = daemons.template.spec;
const containers = [...pod.initContainers, ...pod.containers];

test('the manifests are YAML without errors, and are what they say', (t) => {
  for (const document of documents) t.deepEqual([...document.errors, ...document.warnings], []);
  t.deepEqual(
    [...manifests.values()].map(({ apiVersion, kind }) => `${apiVersion} ${kind}`),
    ['v1 Namespace', 'v1 ConfigMap', 'apps/v1 DaemonSet', 'node.k8s.io/v1 RuntimeClass'],
  );
  const namespace = manifests.get('Namespace')!.metadata.name;
  for (const kind of ['ConfigMap', 'DaemonSet']) t.is(manifests.get(kind)!.metadata.namespace, namespace);
  t.deepEqual(daemons.selector.matchLabels, daemons.template.metadata.labels);
});

test('containers mount volumes that are there, at the paths of the host, and may propagate mounts', (t) => {
  const volumes = new Map(pod.volumes.map((volume) => [volume.name, volume]));
  for (const { name, securityContext, volumeMounts } of containers) {
    t.true(securityContext.privileged, name);
    for (const mount of volumeMounts) {
      const volume = volumes.get(mount.name);
      t.truthy(volume, mount.name);
      if (volume?.hostPath !== undefined) t.is(mount.mountPath, volume.hostPath.path);
    }
    const state = volumeMounts.find(({ mountPath }) => mountPath === '/var/lib/orca');
    t.is(state?.mountPropagation, 'Bidirectional', name);
  }
  const map = pod.volumes.find(({ configMap }) => configMap !== undefined)?.configMap?.name;
  t.is(map, manifests.get('ConfigMap')!.metadata.name);
});

test('the daemon is a sidecar that nothing but its own end restarts', (t) => {
  const [daemon, ...others] = pod.initContainers;
  t.like(daemon, { name: 'daemon', restartPolicy: 'Always', livenessProbe: undefined });
  t.deepEqual(others, []);
});

test('containers run commands and options that orca has', (t) => {
  const commands = [...allCommands(commandTree(createProgram()))];
  for (const { args } of containers) {
    const command = commands.find(({ path }) => path.join(' ') === `orca ${args[0]}`);
    t.truthy(command, args[0]);
    const known = command?.options.map(({ long }) => long);
    for (const option of args.filter((arg) => arg.startsWith('--'))) t.true(known?.includes(option), option);
  }
  t.true(containers.some(({ args }) => args.includes(SOCKET)));
});

test('the configuration is one that orca takes, also with what is commented out', async (t) => {
  const text = manifests.get('ConfigMap')!.data['config.toml'] ?? '';
  await t.notThrowsAsync(parseHostConfig(text.replace(/^# /gm, ''), 'config.toml'));
});

for (const [file, version, cri] of [
  ['containerd-1.toml', 2, 'io.containerd.grpc.v1.cri'],
  ['containerd-2.toml', 3, 'io.containerd.cri.v1.runtime'],
] as const) {
  test(`${file} names the snapshotter, its socket and the handler of the runtime class`, async (t) => {
    const config = parseToml(await readFile(`${folder}/${file}`, 'utf8'));
    const { handler } = manifests.get('RuntimeClass')!;
    t.like(config, { version, proxy_plugins: { orca: { type: 'snapshot', address: SOCKET } } });
    const plugins = config['plugins'] as Record<string, { containerd?: { runtimes: object } }>;
    t.like(plugins[cri]?.containerd?.runtimes, {
      [handler]: { runtime_type: 'io.containerd.runc.v2', snapshotter: 'orca' },
    });
  });
}

test('the README’s pod names the class and the annotation', async (t) => {
  const readme = await readFile(`${folder}/README.md`, 'utf8');
  const [, example = ''] = /```yaml\n(.*?)```/s.exec(readme) ?? [];
  const [document] = parseAllDocuments(example);
  t.like(document?.toJS(), {
    kind: 'Pod',
    metadata: { annotations: { 'io.containerd.cri.runtime-handler': 'orca' } },
    spec: { runtimeClassName: manifests.get('RuntimeClass')!.metadata.name },
  });
});
