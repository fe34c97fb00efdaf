apt-get -qq update
