// Mounting and unmounting FUSE through the setuid program fusermount3, as libfuse does.
#pragma once

#include <string>
#include <vector>

#include "descriptor.h"
#include "error.h"

namespace orca {

/// Runs `fusermount3 -o OPTIONS -- TARGET` and receives the /dev/fuse descriptor over a socket.
Failure mountByFusermount(const std::string& options, const std::string& target, Descriptor& device);

/// Runs `fusermount3 -u [-z] -- TARGET`; `lazy` is MNT_DETACH.
Failure unmountByFusermount(const std::string& target, bool lazy);

}  // namespace orca
