useradd --uid 1000 --user-group --create-home --shell /bin/sh node
install -D -m 644 /mnt/server.js /srv/app/server.js
ln -s server.js /srv/app/main.js
rm -rf /usr/share/nodejs/acorn/dist/*.d.ts /usr/share/perl5
