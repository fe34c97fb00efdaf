/** Images whose containers are timed until they are ready: those of the system tests, Java, and a shell. */
import { type ImageCheck, type TestImageName, testImage } from '../../test/system/images.js';
import { install, type LayeredImage, layeredImage, type Step } from './layered-image.js';
import type { BuiltImage } from './table-images.js';

const PATH = 'PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

const server = `import com.sun.net.httpserver.HttpServer;
import java.net.InetSocketAddress;

public class Server {
  public static void main(String[] arguments) throws Exception {
    var port = Integer.parseInt(System.getenv("PORT"));
    var server = HttpServer.create(new InetSocketAddress("127.0.0.1", port), 0);
    server.createContext("/", exchange -> {
      var body = "served by Java\\n".getBytes();
      exchange.sendResponseHeaders(200, body.length);
      exchange.getResponseBody().write(body);
      exchange.close();
    });
    Runtime.getRuntime().addShutdownHook(new Thread(() -> Runtime.getRuntime().halt(0)));
    server.start();
  }
}
`;

const jre = install('openjdk-17-jre-headless');
/** Scripts of the package make links in a directory that a base without manual pages lacks. */
const java: Step = { ...jre, script: `mkdir -p /usr/share/man/man1\n${jre.script}` };

const built: Record<'java' | 'shell', { image: LayeredImage; check: ImageCheck }> = {
  java: {
    image: {
      name: 'ready-java',
      steps: [java],
      app: {
        name: 'server',
        script: 'mkdir /app && java -m jdk.compiler/com.sun.tools.javac.Main -d /app /mnt/Server.java',
        files: { 'Server.java': server },
      },
      config: { Entrypoint: ['java', '-cp', '/app', 'Server'], Env: [PATH, 'PORT=8080'], WorkingDir: '/app' },
    },
    check: { command: [], http: { body: 'served by Java\n', stopSignal: 'SIGTERM' } },
  },
  shell: {
    image: {
      name: 'ready-shell',
      steps: [],
      app: { name: 'greeting', script: 'echo "a shell is there" > /greeting' },
      config: { Cmd: ['sh', '-c', 'read line < /greeting && echo "$line"'], Env: [PATH] },
    },
    check: { command: [], stdout: 'a shell is there\n' },
  },
};

export type ReadyImageName = TestImageName | keyof typeof built;
export const readyImageNames: readonly ReadyImageName[] = [
  'shell',
  'python',
  'node',
  'nginx',
  'postgres',
  'java',
];

export async function readyImage(
  name: ReadyImageName,
  progress: (text: string) => void,
): Promise<BuiltImage> {
  if (name !== 'java' && name !== 'shell') return testImage(name);
  const { image, check } = built[name];
  return { directory: await layeredImage(image, progress), tag: image.name, check };
}
