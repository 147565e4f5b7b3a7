#include <assert.h>
#include <string.h>

#include "glob.h"

static int match(const char *pattern, const char *path, int is_directory) {
    return vdr_glob_match((const uint8_t *)pattern, strlen(pattern), (const uint8_t *)path, strlen(path), is_directory);
}

int main(void) {
    assert(match("*.txt", "a/b/c.txt", 0) && !match("*.txt", "a/b/c.txt.gz", 0) && match("c", "a/c", 1));
    assert(match("/a", "a", 0) && !match("/a", "b/a", 0) && !match("/a", "a/b", 0));
    assert(match("a/*", "a/b", 0) && !match("a/*", "a/b/c", 0) && !match("a/*", "b/a/c", 0));
    assert(match("a/**", "a/b/c", 0) && match("a/**", "a/b", 0) && !match("a/**", "a", 1));
    assert(match("**/c", "c", 0) && match("**/c", "a/b/c", 0) && match("a/**/c", "a/c", 0) && match("a/**/c", "a/x/y/c", 0));
    assert(!match("a/**/c", "a/x/y/d", 0) && match("a/**/b/**/c", "a/1/b/2/b/3/c", 0));
    assert(match("cache/", "x/cache", 1) && !match("cache/", "x/cache", 0) && match("/x/cache/", "x/cache", 1));
    assert(match("[a-c]?", "b1", 0) && !match("[!a-c]?", "b1", 0) && match("[]]", "]", 0) && match("[", "[", 0));
    assert(match("\\*", "*", 0) && !match("\\*", "a", 0) && match("a\\[b", "a[b", 0) && match("[\\]]", "]", 0));
    assert(!match("*", "", 1) && !match("", "a", 0) && match("*", ".hidden", 0) && match("a*b*c", "axxbyyc", 0));
    assert(!match("a*a*a*a*a*a*a*a*b", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", 0));
    const uint8_t rules[] = {VDR_GLOB_EXCLUDE, 1, 0, 'a', VDR_GLOB_INCLUDE, 1, 0, 'b'};
    assert(vdr_glob_any(rules, sizeof rules, VDR_GLOB_EXCLUDE, (const uint8_t *)"a", 1, 0) == 1);
    assert(vdr_glob_any(rules, sizeof rules, VDR_GLOB_INCLUDE, (const uint8_t *)"a", 1, 0) == 0);
    assert(vdr_glob_any(rules, sizeof rules - 1, VDR_GLOB_INCLUDE, (const uint8_t *)"a", 1, 0) < 0);
    return 0;
}
