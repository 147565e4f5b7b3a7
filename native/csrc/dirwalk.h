/* Reaches the directory of a path beneath a root, one component at a time and never through a symbolic link, so that neither
 * a hostile rename nor a path longer than PATH_MAX leads outside. Remembers the last directory: sorted paths cost one walk a
 * directory. */
#ifndef VDR_DIRWALK_H
#define VDR_DIRWALK_H

#include <stddef.h>
#include <stdint.h>

/* cffi: begin */
typedef struct vdr_dirwalk vdr_dirwalk;

/* `root_fd` stays the caller's and must outlive the walk. NULL without memory. */
vdr_dirwalk *vdr_dirwalk_open(int root_fd);
void vdr_dirwalk_close(vdr_dirwalk *walk);

/* Descriptor (O_PATH, owned by the walk, valid until the next call) of the directory that holds `path`; *name_at is where its last
 * component begins. VDR_E_IO with errno (ELOOP or ENOTDIR for a symbolic link on the way). For "" the root itself. */
int vdr_dirwalk_parent(vdr_dirwalk *walk, const uint8_t *path, size_t path_bytes, size_t *name_at);

/* Forget the remembered directory, when directories on the way may have been replaced. */
void vdr_dirwalk_forget(vdr_dirwalk *walk);
/* cffi: end */

#endif
