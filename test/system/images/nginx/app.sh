install -m 755 /mnt/entrypoint.sh /entrypoint.sh
install -m 644 /mnt/site.conf /etc/nginx/site.conf.template
install -D -m 644 /mnt/index.html /srv/www/index.html
rm -rf /var/www /etc/nginx/sites-enabled/default /etc/nginx/modules-enabled
ln -sf /dev/stderr /var/log/nginx/error.log
