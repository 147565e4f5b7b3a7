#include "glob.h"

#include <string.h>

#include "err.h"

/* Match one bracket set at `pattern` (after '['). Sets *length to its bytes with the closing ']', or 0 when it is not closed
 * (the bracket is then an ordinary byte). */
static int set_match(const uint8_t *pattern, size_t bytes, uint8_t byte, size_t *length) {
    size_t at = 0;
    int is_negated = 0, is_match = 0;
    if (at < bytes && (pattern[at] == '!' || pattern[at] == '^')) {
        is_negated = 1;
        at++;
    }
    for (size_t first = at; at < bytes && (pattern[at] != ']' || at == first);) {
        uint8_t low = pattern[at++];
        if (low == '\\' && at < bytes) low = pattern[at++];
        uint8_t high = low;
        if (at + 1 < bytes && pattern[at] == '-' && pattern[at + 1] != ']') {
            at++;
            high = pattern[at++];
            if (high == '\\' && at < bytes) high = pattern[at++];
        }
        if (byte >= low && byte <= high) is_match = 1;
    }
    *length = at < bytes ? at + 1 : 0;
    return is_match != is_negated;
}

/* Match within one component: the classic two-pointer walk, linear but for one level of backtracking. */
static int component_match(const uint8_t *pattern, size_t pattern_bytes, const uint8_t *name, size_t name_bytes) {
    size_t p = 0, n = 0, star = SIZE_MAX, star_n = 0;
    while (n < name_bytes) {
        if (p < pattern_bytes && pattern[p] == '*') {
            star = ++p;
            star_n = n;
            continue;
        }
        int is_match = 0;
        size_t step = 1;
        if (p < pattern_bytes) {
            size_t length = 0;
            if (pattern[p] == '?') {
                is_match = 1;
            } else if (pattern[p] == '[') {
                is_match = set_match(pattern + p + 1, pattern_bytes - p - 1, name[n], &length);
                if (length == 0) is_match = name[n] == '[';
                step = 1 + length;
            } else if (pattern[p] == '\\' && p + 1 < pattern_bytes) {
                is_match = pattern[p + 1] == name[n];
                step = 2;
            } else {
                is_match = pattern[p] == name[n];
            }
        }
        if (is_match) {
            p += step;
            n++;
        } else if (star != SIZE_MAX) {
            p = star;
            n = ++star_n;
        } else {
            return 0;
        }
    }
    while (p < pattern_bytes && pattern[p] == '*') p++;
    return p == pattern_bytes;
}

static size_t component_bytes(const uint8_t *text, size_t bytes) {
    const uint8_t *slash = memchr(text, '/', bytes);
    return slash != NULL ? (size_t)(slash - text) : bytes;
}

/* Match component by component; "**" backtracks over components the way '*' does over bytes. */
static int anchored_match(const uint8_t *pattern, size_t pattern_bytes, const uint8_t *path, size_t path_bytes) {
    size_t p = 0, n = 0, star = SIZE_MAX, star_n = 0;
    while (n < path_bytes) {
        size_t name_bytes = component_bytes(path + n, path_bytes - n);
        if (p < pattern_bytes) {
            size_t part_bytes = component_bytes(pattern + p, pattern_bytes - p);
            size_t next = p + part_bytes + (p + part_bytes < pattern_bytes);
            if (part_bytes == 2 && pattern[p] == '*' && pattern[p + 1] == '*') {
                /* at the end it stands for one component or more: "a/" + "**" is what is beneath a */
                if (next >= pattern_bytes) return 1;
                star = p = next;
                star_n = n;
                continue;
            }
            if (component_match(pattern + p, part_bytes, path + n, name_bytes)) {
                p = next;
                n += name_bytes + (n + name_bytes < path_bytes);
                continue;
            }
        }
        if (star == SIZE_MAX) return 0;
        size_t skip = component_bytes(path + star_n, path_bytes - star_n);
        star_n += skip + (star_n + skip < path_bytes);
        p = star;
        n = star_n;
    }
    return p >= pattern_bytes;
}

int vdr_glob_match(const uint8_t *pattern, size_t pattern_bytes, const uint8_t *path, size_t path_bytes, int is_directory) {
    if (pattern_bytes > 0 && pattern[pattern_bytes - 1] == '/') {
        if (!is_directory) return 0;
        pattern_bytes--;
    }
    if (pattern_bytes == 0 || path_bytes == 0) return 0;
    if (memchr(pattern, '/', pattern_bytes) == NULL) {
        size_t name_at = path_bytes;
        while (name_at > 0 && path[name_at - 1] != '/') name_at--;
        return component_match(pattern, pattern_bytes, path + name_at, path_bytes - name_at);
    }
    if (pattern[0] == '/') {
        pattern++;
        pattern_bytes--;
    }
    return anchored_match(pattern, pattern_bytes, path, path_bytes);
}

int vdr_glob_any(const uint8_t *rules, size_t rules_bytes, vdr_glob_kind kind, const uint8_t *path, size_t path_bytes, int is_directory) {
    for (size_t at = 0; at < rules_bytes;) {
        if (rules_bytes - at < 3) return VDR_E_ARGUMENT;
        size_t bytes = (size_t)rules[at + 1] | (size_t)rules[at + 2] << 8;
        if (bytes > rules_bytes - at - 3) return VDR_E_ARGUMENT;
        if (rules[at] == (uint8_t)kind && vdr_glob_match(rules + at + 3, bytes, path, path_bytes, is_directory)) return 1;
        at += 3 + bytes;
    }
    return 0;
}
