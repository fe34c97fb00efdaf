#!/bin/sh
# Makes the database on the first start. `query SQL` answers one query and ends; anything else is executed.
set -eu
[ -s "$PGDATA/PG_VERSION" ] || initdb --no-sync --auth=trust --locale=C.UTF-8 >/tmp/initdb.log
if [ "$1" = query ]; then
  pg_ctl --silent --wait --log=/tmp/postgres.log --options='-c listen_addresses=' start
  psql --no-psqlrc --no-align --tuples-only --command="$2"
  exec pg_ctl --silent --wait --mode=fast stop
fi
exec "$@"
