#include "serve/compute.h"

#include <semaphore.h>

#include <algorithm>
#include <atomic>
#include <boost/lockfree/queue.hpp>
#include <cerrno>
#include <thread>
#include <vector>

namespace fluxion::serve {

struct ComputeThreads::State {
  boost::lockfree::queue<Job*> jobs{256};
  sem_t available;
  std::atomic<int64_t> admitted{0};
  int64_t capacity = 0;
  std::vector<std::thread> threads;

  void run() {
    for (;;) {
      while (sem_wait(&available) != 0 && errno == EINTR) {
      }
      Job* next = nullptr;
      while (!jobs.pop(next)) std::this_thread::yield();  // announced, so it is there
      const std::unique_ptr<Job> job(next);
      if (!job) return;
      (*job)();
      admitted.fetch_sub(1, std::memory_order_release);
    }
  }
};

ComputeThreads::ComputeThreads(uint32_t threads, uint32_t queue)
    : state_(std::make_unique<State>()) {
  if (threads == 0) threads = std::max(1u, std::thread::hardware_concurrency());
  state_->capacity = int64_t{threads} + queue;
  sem_init(&state_->available, 0, 0);
  for (uint32_t i = 0; i < threads; ++i)
    state_->threads.emplace_back([s = state_.get()] { s->run(); });
}

ComputeThreads::~ComputeThreads() {
  for (size_t i = 0; i < state_->threads.size(); ++i) {
    state_->jobs.push(nullptr);
    sem_post(&state_->available);
  }
  for (std::thread& t : state_->threads) t.join();
  sem_destroy(&state_->available);
}

bool ComputeThreads::submit(Job job) {
  if (state_->admitted.fetch_add(1, std::memory_order_acquire) >= state_->capacity) {
    state_->admitted.fetch_sub(1, std::memory_order_release);
    return false;
  }
  auto owned = std::make_unique<Job>(std::move(job));
  state_->jobs.push(owned.get());
  owned.release();
  sem_post(&state_->available);
  return true;
}

}  // namespace fluxion::serve
