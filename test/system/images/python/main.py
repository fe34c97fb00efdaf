import numpy

values = numpy.arange(1_000_000, dtype=numpy.int64)
matrix = numpy.arange(10_000, dtype=numpy.float64).reshape(100, 100)
print("checksum", int((values * values % 997).sum()), int((matrix @ matrix).trace()))
