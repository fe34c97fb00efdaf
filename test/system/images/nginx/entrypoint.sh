#!/bin/sh
set -eu
sed "s/@PORT@/$PORT/" /etc/nginx/site.conf.template > /etc/nginx/conf.d/site.conf
exec "$@"
