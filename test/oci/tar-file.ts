/** Builds small tars for tests: ustar headers, no extensions. */

export type TarMember =
  | { name: string; content: Uint8Array | string }
  | { name: string; symlink: string }
  | { name: string; hardlink: string };

export function tarOf(members: readonly TarMember[]): Buffer {
  const parts: Buffer[] = [];
  for (const member of members) {
    const content = 'content' in member ? Buffer.from(member.content) : Buffer.alloc(0);
    const link = 'symlink' in member ? member.symlink : 'hardlink' in member ? member.hardlink : '';
    const type = 'symlink' in member ? '2' : 'hardlink' in member ? '1' : '0';
    const header = Buffer.alloc(512);
    header.write(member.name, 0, 100, 'latin1');
    header.write('0000644\0', 100);
    header.write('0000000\0', 108);
    header.write('0000000\0', 116);
    header.write(`${content.length.toString(8).padStart(11, '0')}\0`, 124);
    header.write('00000000000\0', 136);
    header.write('        ', 148);
    header.write(type, 156);
    header.write(link, 157, 100, 'latin1');
    header.write('ustar\x0000', 257);
    const sum = header.reduce((total, byte) => total + byte, 0);
    header.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148);
    parts.push(header, content, Buffer.alloc((512 - (content.length % 512)) % 512));
  }
  return Buffer.concat([...parts, Buffer.alloc(1024)]);
}
