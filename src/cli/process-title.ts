/**
 * Imported before everything else: a URL on the command line may hold a password, and the command line of a process
 * is readable by every user of the machine. Setting the title overwrites it.
 */
const SECRET = /([a-z][a-z0-9+.-]*:\/\/)\S*@/gi;

if (process.argv.some((argument) => argument.search(SECRET) >= 0)) {
  process.title = ['orca', ...process.argv.slice(2)].join(' ').replace(SECRET, '$1');
}
