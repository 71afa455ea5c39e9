#include "tensor/fork.h"

#include <pthread.h>

namespace fluxion::detail {
namespace {

constinit bool forked_child = false;

// In the order in which they nest.
void before() {
  lock_snapshots();
  lock_block_cache();
  lock_pool_depot();
}

void after() {
  unlock_pool_depot();
  unlock_block_cache();
  unlock_snapshots();
}

void after_in_child() {
  forked_child = true;
  after();
}

}  // namespace

void install_fork_handlers() {
  static const int once = pthread_atfork(before, after, after_in_child);
  (void)once;
}

bool in_forked_child() { return forked_child; }

}  // namespace fluxion::detail
