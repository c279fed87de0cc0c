// The shim as a Node-API module, for Workers.
#include "worker_end.h"
