/* Loading and unloading: every symbol of the list is there, and a context that was opened and closed leaves neither a
 * thread nor a descriptor behind. Usage: load_test LIBSEALANE symbols.txt CA.pem */
#include <dirent.h>
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "sealane.h"

/* Entries of a folder below /proc/self. */
static int entries(const char* path) {
  int count = 0;
  DIR* folder = opendir(path);
  if (folder == NULL) return -1;
  while (readdir(folder) != NULL) ++count;
  closedir(folder);
  return count;
}

static int check_symbols(void* library, const char* list) {
  char line[256];
  int missing = 0;
  int seen = 0;
  FILE* file = fopen(list, "r");
  if (file == NULL) return 1;
  while (fgets(line, sizeof line, file) != NULL) {
    line[strcspn(line, "\n")] = '\0';
    ++seen;
    if (dlsym(library, line) == NULL) {
      fprintf(stderr, "%s: not exported\n", line);
      ++missing;
    }
  }
  fclose(file);
  return seen == 0 ? 1 : missing;
}

/* ISO C has no conversion from an object pointer to a function pointer; POSIX has the same representation for both. */
#define FIND(function, library, name)              \
  do {                                             \
    void* found = dlsym((library), (name));        \
    memcpy(&(function), &found, sizeof(function)); \
  } while (0)

static int open_and_close(void* library, const char* config) {
  int (*open_context)(const char*, sealane_ctx**) = NULL;
  int (*query)(sealane_ctx*, const char*, unsigned, uint16_t, unsigned, sealane_decision**) = NULL;
  const char* (*error)(const sealane_ctx*) = NULL;
  void (*free_decision)(sealane_decision*) = NULL;
  void (*close_context)(sealane_ctx*) = NULL;
  sealane_ctx* ctx = NULL;
  sealane_decision* decision = NULL;
  int bad = 0;
  FIND(open_context, library, "sealane_open");
  FIND(query, library, "sealane_query");
  FIND(error, library, "sealane_error");
  FIND(free_decision, library, "sealane_decision_free");
  FIND(close_context, library, "sealane_close");
  if (open_context(config, &ctx) != SEALANE_OK || query(ctx, "[192.0.2.1]", 0, 25, 0, &decision) != SEALANE_OK) {
    fprintf(stderr, "%s\n", error(ctx));
    bad = 1;
  }
  /* Exim reaps children and gets signals as it likes: no threads in its process. */
  if (entries("/proc/self/task") != 3) {
    fprintf(stderr, "a thread was started\n");
    bad = 1;
  }
  free_decision(decision);
  close_context(ctx);
  return bad;
}

int main(int argc, char** argv) {
  char folder[] = "/tmp/sealane-load-XXXXXX";
  char path[3][256];
  FILE* file;
  int round;
  int bad = 0;
  int descriptors = -1;
  char* ca = argc == 4 ? realpath(argv[3], NULL) : NULL;
  if (ca == NULL || mkdtemp(folder) == NULL) {
    fprintf(stderr, "usage: load_test LIBSEALANE symbols.txt CA.pem\n");
    return 2;
  }
  snprintf(path[0], sizeof path[0], "%s/root.key", folder);
  snprintf(path[1], sizeof path[1], "%s/sealane.conf", folder);
  snprintf(path[2], sizeof path[2], "%s/sealane.db", folder);
  file = fopen(path[0], "w");
  if (file == NULL) return 2;
  fputs(". IN DS 20326 8 2 E06D44B80B8F1D39A95C0B0D7C65D08458E880409BBC683457104237C7F8EC8D\n", file);
  fclose(file);
  file = fopen(path[1], "w");
  if (file == NULL) return 2;
  fprintf(file, "store = %s\ntrust_anchor = %s\nca_file = %s\nresolver = 127.0.0.1@1\n", path[2], path[0], ca);
  fclose(file);

  for (round = 0; round < 5; ++round) {
    void* library = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
    if (library == NULL) {
      fprintf(stderr, "%s\n", dlerror());
      return 1;
    }
    bad |= check_symbols(library, argv[2]);
    bad |= open_and_close(library, path[1]);
    dlclose(library);
    if (round == 0) {
      descriptors = entries("/proc/self/fd"); /* libraries may keep one for good: /dev/urandom */
    } else if (entries("/proc/self/fd") != descriptors) {
      fprintf(stderr, "round %d: descriptors leak: %d, were %d\n", round, entries("/proc/self/fd"), descriptors);
      bad = 1;
    }
  }
  for (round = 0; round < 3; ++round) unlink(path[round]);
  rmdir(folder);
  free(ca);
  return bad == 0 ? 0 : 1;
}
