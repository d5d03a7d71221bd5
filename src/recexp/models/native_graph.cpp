// Loops over small graphs.

#include "native_math.h"
