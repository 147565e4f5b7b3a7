/* Include and exclude patterns over paths of a tree. `docs/files.md` states what a pattern means to a user.
 *
 * A rule list is the patterns back to back, each as u8 kind, u16 length (little-endian), bytes. A pattern with a slash before
 * its end is anchored at the root of the tree, one without matches the last component at any depth; a slash at its end makes it match
 * directories only. '*' and '?' do not match '/', "**" as a whole component matches any number of components, "[...]" a set,
 * '\' takes the next byte literally. */
#ifndef VDR_GLOB_H
#define VDR_GLOB_H

#include <stddef.h>
#include <stdint.h>

/* cffi: begin */
typedef enum {
    VDR_GLOB_INCLUDE = 1,
    VDR_GLOB_EXCLUDE = 2,
} vdr_glob_kind;

/* 1 if `pattern` matches `path` by itself (not through a parent directory). */
int vdr_glob_match(const uint8_t *pattern, size_t pattern_bytes, const uint8_t *path, size_t path_bytes, int is_directory);

/* 1 if any pattern of that kind among the rules matches; 0; or VDR_E_ARGUMENT for a malformed list. */
int vdr_glob_any(const uint8_t *rules, size_t rules_bytes, vdr_glob_kind kind, const uint8_t *path, size_t path_bytes, int is_directory);
/* cffi: end */

#endif
