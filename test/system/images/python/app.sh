useradd --uid 1000 --user-group --create-home --shell /bin/sh app
install -D -m 644 /mnt/main.py /app/main.py
chown -R app:app /app
# Whiteouts: single files and whole directories of the package layer, and one directory made anew (opaque).
rm -rf /usr/lib/python3/dist-packages/numpy/*/tests /usr/lib/python3/dist-packages/numpy/tests
rm -f /usr/bin/perldoc /usr/bin/pdb3* /usr/bin/pydoc3*
rm -rf /usr/lib/python3.11/pydoc_data && mkdir /usr/lib/python3.11/pydoc_data
echo '# removed' > /usr/lib/python3.11/pydoc_data/__init__.py
