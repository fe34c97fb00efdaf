apt-get -qq install --no-install-recommends nodejs
