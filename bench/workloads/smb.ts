/**
 * Reading a big file from an encrypted share: cold through the mount, and with the client alone, against
 * `smbclient -c get` into /dev/null; all through one smbd on this machine.
 */
import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { SmbClient } from '../../src/smb/client.js';
import { run } from '../../test/system/command.js';
import { Samba } from '../../test/system/samba.js';
import { bulk, bulkImage } from '../bulk-image.js';
import { timeRead } from '../clients.js';
import { cpuSeconds, interleaved, median, seconds } from '../measure.js';
import { expandInto, mountedImage } from '../mounted-image.js';
import type { Workload } from '../workload.js';

/** The client alone: several reads of several pieces at once, so that the connection never idles. */
const CLIENT_READ = 4 << 20;
const CLIENT_READERS = 4;

export const workload: Workload = {
  figures: {
    smb_read_mb_per_s: { meaning: 'cold sequential read through the mount, encrypted share' },
    smb_read_cpu_seconds_per_gib: {
      meaning: 'CPU seconds of the serving process per GiB of that, from its mount on',
    },
    smb_read_rate_vs_smbclient: { meaning: 'the rate ÷ that of smbclient get', aim: '≥ 1' },
    smb_client_read_rate_vs_smbclient: { meaning: 'the rate of the client alone ÷ that of smbclient get' },
  },
  async run({ work, repetitions, defer, note }) {
    const store = join(work, 'store');
    await expandInto(store, await bulkImage(), bulk.tag, 'bulk');
    const samba = await Samba.start({ shares: { store: { path: store } }, encryption: 'required' });
    defer(() => samba.stop());
    const credentials = { username: samba.username, password: samba.password };
    const env = { ORCA_SMB_USER: samba.username, ORCA_SMB_PASSWORD: samba.password };
    const layer = (await run('sh', ['-c', 'cd "$1" && ls layers/sha256/*.vhd', 'sh', store])).trim();
    const megabytes = bulk.bigFileBytes / 1e6;
    let mounts = 0;
    const cpu: number[] = [];
    const rates = await interleaved(
      {
        async mount() {
          const number = mounts++;
          const orca = await mountedImage(
            {
              store: samba.url('store'),
              image: 'bulk',
              cache: join(work, `cache-${number}`),
              mountpoint: join(work, 'orca'),
            },
            env,
          );
          try {
            const before = await cpuSeconds(orca.pid);
            const time = await timeRead(join(orca.mountpoint, bulk.bigFile));
            cpu.push(((await cpuSeconds(orca.pid)) - before) / (bulk.bigFileBytes / 2 ** 30));
            return megabytes / time;
          } finally {
            await orca.unmount();
            await run('rm', ['-r', join(work, `cache-${number}`)]);
          }
        },
        async client() {
          const client = await SmbClient.connect({
            host: samba.host,
            port: samba.port,
            share: 'store',
            credentials,
          });
          const file = await client.open(layer);
          const { size } = file;
          let at = 0;
          const reader = async () => {
            while (at < size) {
              const from = at;
              at = Math.min(size, from + CLIENT_READ);
              await file.read(from, at - from);
            }
          };
          const time = await seconds(() => Promise.all(Array.from({ length: CLIENT_READERS }, reader)));
          await file.close();
          await client.close();
          return size / 1e6 / time;
        },
        async smbclient() {
          const get = `get ${layer.replaceAll('/', '\\')} /dev/null`;
          const server = ['-s', samba.configFile, '-p', String(samba.port)];
          const time = await seconds(() =>
            run('smbclient', [...server, '--client-protection=encrypt', `//${samba.host}/store`, '-c', get], {
              env: { ...process.env, USER: samba.username, PASSWD: samba.password },
            }),
          );
          return (await stat(join(store, layer))).size / 1e6 / time;
        },
      },
      Math.min(repetitions, 5),
    );
    note(
      `MB per second: mount ${rates.median.mount.toFixed(0)}, client ${rates.median.client.toFixed(0)}, smbclient ${rates.median.smbclient.toFixed(0)}`,
    );
    return {
      smb_read_mb_per_s: rates.median.mount,
      smb_read_cpu_seconds_per_gib: median(cpu.slice(1)),
      smb_read_rate_vs_smbclient: rates.ratio('mount', 'smbclient'),
      smb_client_read_rate_vs_smbclient: rates.ratio('client', 'smbclient'),
    };
  },
};
