// fork() while other threads run: every lock of this folder is held across it, so the child finds
// none of them taken.
#pragma once

namespace fluxion::detail {

/// Called before the first lock is taken.
void install_fork_handlers();

/// True in a child of fork(): it has one thread and stays serial.
bool in_forked_child();

// Defined next to the locks they mean.
void lock_snapshots();
void unlock_snapshots();
void lock_block_cache();
void unlock_block_cache();
void lock_pool_depot();
void unlock_pool_depot();

}  // namespace fluxion::detail
