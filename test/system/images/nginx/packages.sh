apt-get -qq install --no-install-recommends nginx-light
