/** The page of the daemon in a real browser, over a real mount that is really read. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import type { MountView } from '../../src/daemon/page-view.js';
import { DaemonFixture } from '../daemon/daemon-fixture.js';
import { addImage, content } from '../source/store-fixture.js';
import { Browser } from './browser.js';

const HOSTILE = "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'<";
const HIDDEN = 'secret-of-the-container';
const LAYERS = [
  Object.fromEntries(
    Array.from({ length: 40 }, (_, index) => [
      `usr/lib/module-${index}.so`,
      content(`module ${index}`, 90_000),
    ]),
  ),
  { 'opt/model.bin': content('model', 6_000_000), [`opt/${HOSTILE}`]: content('hostile', 5000) },
];

test('the page draws what mounts read, fetch and wait for, and runs nothing of what an image says', async (t) => {
  const fixture = await DaemonFixture.open(t);
  await addImage(fixture.store, 'app:1', LAYERS);
  await fixture.start({ http: '127.0.0.1:0' });
  const { mountpoint } = await fixture.mount('app:1', 'one', {
    environment: { ORCA_SMB_PASSWORD: HIDDEN },
  });
  let page: string | undefined;
  while (page === undefined) page = (await fixture.answer()).http;

  for (let index = 0; index < 40; index += 4) await readFile(join(mountpoint, `usr/lib/module-${index}.so`));
  await readFile(join(mountpoint, 'opt', HOSTILE));
  await readFile(join(mountpoint, 'opt/model.bin'));

  const answer = await (await fetch(`${page}view/mounts/one.json`)).text();
  t.false(answer.includes(HIDDEN));
  t.notRegex(answer, /environment|"config"|credentials|"request"/i);
  const view = JSON.parse(answer) as MountView;
  t.is(view.files.total, 12);
  t.deepEqual(
    view.files.first.map(({ path }) => path).filter((path) => path.startsWith('/usr')),
    Array.from({ length: 10 }, (_, index) => `/usr/lib/module-${index * 4}.so`),
  );
  const fetched = view.activity.fetches.reduce((sum, [, , count]) => sum + count, 0);
  t.is(
    fetched,
    view.perLayer.reduce((sum, { blocksCached }) => sum + blocksCached, 0),
  );
  t.true(view.activity.reads.length > 0);
  t.is(view.sources[0]?.kind, 'file');

  const browser = await Browser.start();
  t.teardown(() => browser.close());
  await browser.open(page);
  await browser.until('document.querySelector("#files td.path")');
  const shown = await browser.evaluate<string>('document.body.innerText');
  for (const text of ['app:1', mountpoint, 'usr/lib/module-8.so', '/opt/model.bin', fixture.store])
    t.true(shown.includes(text), text);
  const inFiles = await browser.evaluate<string[]>(
    '[...document.querySelectorAll("#files td.path")].map((cell) => cell.textContent)',
  );
  t.true(inFiles.includes(`/opt/${HOSTILE}`));
  t.is(await browser.evaluate('document.title'), 'Orca');
  t.is(await browser.evaluate('document.querySelectorAll("img, main script, b").length'), 0);
  t.true(await browser.evaluate('document.querySelector("path.fetched.kind-file").getBBox().height > 0'));
  t.true(await browser.evaluate('document.querySelector("path.read").getBBox().height > 0'));
  t.true(await browser.evaluate('document.querySelector("path.line").getTotalLength() > 0'));
  t.is(await browser.evaluate('document.querySelectorAll(".strips tbody tr").length'), 2);

  // Inline script is refused by the policy, were there a way to bring it in.
  await browser.evaluate(
    'document.body.append(Object.assign(document.createElement("script"), { textContent: "document.title = 1" }))',
  );
  t.is(await browser.evaluate('document.title'), 'Orca');
  t.is(browser.complaints.length, 1);
  t.regex(browser.complaints[0]!, /Content Security Policy/);
  t.deepEqual(
    browser.asked.filter((url) => !url.startsWith(page) && !url.startsWith('about:')),
    [],
  );

  await browser.evaluate('document.querySelector("[data-span=start]").click()');
  await browser.until('document.querySelector("[data-span=start]").getAttribute("aria-pressed") === "true"');
  await fixture.client.shutDown(true);
  await browser.until('document.querySelector("#state").textContent === "the daemon does not answer"');
});
