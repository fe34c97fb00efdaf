/** The daemon's process. What a launcher asks for is understood by the command `run`, which is above the daemon. */
import { serveDaemon } from '../daemon/main.js';

await serveDaemon(() => import('./launch.js'));
