#include "python/src/long_work.h"

#include <pthread.h>

#include <atomic>

#include "python/src/object.h"
#include "tensor/threads.h"

namespace fluxion::python {

namespace {

std::atomic<int> running{0};  // threads in long work without the GIL; changes while the GIL is held
int waiting = 0;  // under the GIL: threads that want to edit, so that nobody starves them

void* release_gil() {
  if (!PyGILState_Check() || waiting) return nullptr;
  ++running;
  return PyEval_SaveThread();
}

void restore_gil(void* state) {
  PyEval_RestoreThread(static_cast<PyThreadState*>(state));
  if (--running == 0) running.notify_all();
}

void forget_other_threads() { running = waiting = 0; }

bool finalizing() {  // threads that want the GIL now end, and never come back from their work
#if PY_VERSION_HEX >= 0x030D0000
  return Py_IsFinalizing();
#else
  return _Py_IsFinalizing();
#endif
}

}  // namespace

void wait_for_long_work() {
  if (running.load() == 0 || finalizing()) [[likely]]
    return;
  ++waiting;
  Py_BEGIN_ALLOW_THREADS;
  while (int n = running.load()) running.wait(n);
  Py_END_ALLOW_THREADS;
  --waiting;
}

void install_long_work() {
  set_long_work_hooks({release_gil, restore_gil});
  pthread_atfork(nullptr, nullptr, forget_other_threads);
}

}  // namespace fluxion::python
