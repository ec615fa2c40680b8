/* What is demanded of connections to a domain's mail hosts:
 *     cc -std=c99 decide.c $(pkg-config --cflags --libs sealane) -o decide && ./decide example.org */
#include <sealane.h>
#include <stdio.h>

int main(int argc, char** argv) {
  sealane_ctx* ctx = NULL;
  sealane_decision* decision = NULL;
  size_t i;
  int status;

  if (argc < 2 || argc > 3) {
    fprintf(stderr, "usage: decide DOMAIN [CONFIG]\n");
    return 64;
  }
  status = sealane_open(argc == 3 ? argv[2] : NULL, &ctx);
  if (status == SEALANE_OK) status = sealane_query(ctx, argv[1], 0, 25, 0, &decision);
  if (status != SEALANE_OK) {
    fprintf(stderr, "decide: %s: %s\n", sealane_strerror(status), ctx != NULL ? sealane_error(ctx) : "");
    sealane_close(ctx);
    return 70;
  }
  printf("%s\n", sealane_decision_text(decision));
  for (i = 0; i < sealane_decision_host_count(decision); ++i) {
    printf("  %s: %s (%s)\n", sealane_host_name(decision, i), sealane_host_tls(decision, i),
           sealane_host_reason(decision, i));
  }
  sealane_decision_free(decision);
  sealane_close(ctx);
  return 0;
}
