apt-get -qq install --no-install-recommends python3 python3-numpy
