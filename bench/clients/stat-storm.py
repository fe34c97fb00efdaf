"""What an interpreter with a long search path does: looks for every name in every directory. Usage: ROOT; prints seconds."""
import os
import sys
import time

root = sys.argv[1]
directories = sorted(entry.path for entry in os.scandir(root) if entry.is_dir())
began = time.perf_counter()
for name in range(10):
    for directory in directories:
        for suffix in ('.cpython-311-x86_64-linux-gnu.so', '.abi3.so', '.so', '.py', '.pyc'):
            try:
                os.stat(f'{directory}/module{name}{suffix}')
            except FileNotFoundError:
                pass
        os.stat(directory)
print(time.perf_counter() - began)
