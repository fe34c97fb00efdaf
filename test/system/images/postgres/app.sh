install -m 755 /mnt/entrypoint.sh /usr/local/bin/entrypoint.sh
install -d -o postgres -g postgres -m 2775 /run/postgresql
install -d -o postgres -g postgres -m 700 /var/lib/postgresql/data
rm -rf /etc/postgresql-common /usr/share/postgresql/15/tsearch_data/*.sample /usr/lib/postgresql/15/lib/bitcode
