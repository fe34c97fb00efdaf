/** Real clients against `orca registry --upstream` before Debian's docker-registry, which asks for Basic. Needs root. */
import test from 'ava';
import { declareClientTests, PASSWORD } from './client-matrix.js';
import { DockerRegistry } from './docker-registry.js';
import { RegistryProcess } from './registry-process.js';

declareClientTests(test, {
  hasScopes: false,
  start: async () => {
    const user = ['pusher', 'reader'].map((username) => ({ username, password: PASSWORD }));
    const upstream = await DockerRegistry.start({ user });
    const gateway = await RegistryProcess.start(['--upstream', `http://${upstream.host}`]);
    return {
      host: gateway.host,
      stop: async () => {
        await gateway.stop();
        await upstream.stop();
      },
    };
  },
});
