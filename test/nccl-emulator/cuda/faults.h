// Faults of the program under test.
#pragma once

#include <cstdarg>

#include "driver_api.h"

namespace cuemu {

/// Records a fault, formatted as by printf, and returns the error. May be called with the mutex of the world held.
__attribute__((format(printf, 2, 3))) CUresult fault(CUresult error, const char* format, ...);

}  // namespace cuemu
