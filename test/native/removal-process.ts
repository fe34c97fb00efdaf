/**
 * Arguments: data file, map file, bytes, block size, milliseconds. Opens the pair, puts blocks into it, reads what
 * others have put, closes and removes it, again and again; ends with 1 when a block that is present was wrong.
 */
import { addon } from '../../src/native/addon.js';

const [dataPath = '', mapPath = '', size, blockSize, milliseconds] = process.argv.slice(2);
const block = Number(blockSize);
const blocks = Number(size) / block;
const content = (index: number) => new Uint8Array(block).fill(index + 1);
const random = (limit: number) => Math.floor(Math.random() * limit);

let wrong = 0;
for (const end = Date.now() + Number(milliseconds); Date.now() < end; ) {
  const file = new addon.BlockFile({ dataPath, mapPath, size: Number(size), blockSize: block });
  for (let action = random(6); action > 0; action--) {
    const index = random(blocks);
    if (random(2) === 0) await file.put(index, content(index));
    for (let other = 0; other < blocks; other++)
      if (file.has(other) && !Buffer.from(await file.read(other)).equals(content(other))) wrong += 1;
  }
  await file.close();
  if (random(2) === 0) addon.removeBlockFile(dataPath, mapPath);
}
process.exit(wrong === 0 ? 0 : 1);
