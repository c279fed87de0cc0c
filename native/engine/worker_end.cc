// The shim as a module of Node-API, for Workers.
#include "worker_end.h"
