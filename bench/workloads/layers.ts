/**
 * How long a mount takes, from the request to the daemon until the first `ls` of it is answered, for the files of one
 * image in 34 layers and in 1. The host has neither; the registry and its share are behind a link of 0.5 ms.
 */
import { mkdir, mkdtemp, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { ImageServer, registryData, WARM_UP } from '../image-server.js';
import { splitImage } from '../images/split-image.js';
import { tableImage, warmUpImage } from '../images/table-images.js';
import { LINKS } from '../link/link.js';
import { coldHost, interleaved, median, seconds } from '../measure.js';
import { bundle, ResidentDaemon } from '../resident-daemon.js';
import { numberText } from '../results.js';
import type { Workload } from '../workload.js';

const MANY = 34;

export const workload: Workload = {
  figures: {
    mount_ms_34_layers: {
      meaning: 'from the request until the first ls is answered, nothing cached, link of 0.5 ms',
      aim: '≤ 60',
    },
    mount_time_34_vs_1_layer: { meaning: 'the time ÷ that of the same files in one layer', aim: '≤ 1.2' },
    mount_ms_34_layers_again: { meaning: 'the same once more on that host, unmounted in between' },
    mount_time_34_vs_1_layer_again: { meaning: 'that ÷ the time of the same files in one layer' },
  },
  async run({ work, repetitions, defer, progress, note, chart }) {
    await bundle();
    progress('images');
    const whole = await tableImage('182mb', progress);
    const images = { many: await splitImage(whole, MANY), one: await splitImage(whole, 1) };
    const warmUp = await warmUpImage();
    const data = await registryData('layers', images, progress);
    const server = await ImageServer.start(work, data, LINKS.rack);
    defer(() => server.stop());
    const again = { many: [] as number[], one: [] as number[] };

    const measure = async (which: keyof typeof images) => {
      const place = await mkdtemp(join(work, 'host-'));
      const daemon = await ResidentDaemon.start(place);
      const mountpoint = join(place, 'mnt');
      await mkdir(mountpoint);
      const mount = async (repository: string, tag: string) => {
        const image = `${server.host}/${repository}:${tag}`;
        const time = await seconds(async () => {
          await daemon.client.createMount('measured', { image, mountpoint, transports: ['smb'] });
          await readdir(mountpoint);
        });
        await daemon.client.removeMount('measured');
        return time * 1000;
      };
      try {
        await mount(WARM_UP, warmUp.tag);
        await coldHost(data);
        const cold = await mount(which, images[which].tag);
        again[which].push(await mount(which, images[which].tag));
        return cold;
      } finally {
        // The files stay until the end: for minutes after many were deleted, ext4 looks for inodes at length.
        await daemon.stop();
      }
    };
    const cold = await interleaved({ many: () => measure('many'), one: () => measure('one') }, repetitions);
    const warm = { many: median(again.many.slice(1)), one: median(again.one.slice(1)) };
    const rows = [
      { label: `${MANY} layers, nothing cached`, value: cold.median.many, orca: true },
      { label: '1 layer, nothing cached', value: cold.median.one, orca: true },
      { label: `${MANY} layers, again`, value: warm.many, orca: true },
      { label: '1 layer, again', value: warm.one, orca: true },
    ];
    chart({ title: 'From the request until the first ls', unit: 'ms', rows });
    note(`milliseconds: ${rows.map(({ label, value }) => `${label} ${numberText(value)}`).join('; ')}`);
    return {
      mount_ms_34_layers: cold.median.many,
      mount_time_34_vs_1_layer: cold.ratio('many', 'one'),
      mount_ms_34_layers_again: warm.many,
      mount_time_34_vs_1_layer_again: warm.many / warm.one,
    };
  },
};
