// A server of the test models for clients in other languages: prints its port, ends on SIGTERM.
// usage: serve_test_server MODELS
#include <cstdio>

#include "serve/server.h"
#include "serve_models.h"

int main(int argc, char** argv) {
  using namespace fluxion;
  if (argc != 2) return 2;
  try {
    serve::Repository repository(argv[1], serve_test::load_model);
    serve::ServerOptions options;
    options.port = 0;
    options.access_log = 2;
    serve::Server server(repository, options);
    server.stop_on_signals();
    std::printf("%d\n", server.port());
    std::fflush(stdout);
    server.wait();
    return 0;
  } catch (const std::exception& e) {
    std::fprintf(stderr, "%s\n", e.what());
    return 1;
  }
}
