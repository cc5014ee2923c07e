// JSON texts (RFC 8259) as trees: as much as a configuration needs.
#pragma once

#include <stddef.h>
#include <stdint.h>

enum json_kind {
    JSON_OBJECT,
    JSON_ARRAY,
    JSON_STRING,
    // A number, `true`, `false` or `null`. This filter asks for none of their values, so they are not kept.
    JSON_SCALAR,
};

// UTF-8 of which any character may be part, U+0000 as well: not to be used as a C string.
struct text {
    uint8_t *bytes;
    size_t size;
};

struct json {
    enum json_kind kind;
    struct text name;    // of a member of an object
    struct text string;  // of a JSON_STRING
    struct json *first;  // of the members or elements
    struct json *next;   // behind this one in the same object or array
};

// The tree of a text, which the caller frees with json_free; NULL where the text is not JSON, or is nested too deeply to be a configuration.
struct json *json_parse(const uint8_t *text, size_t size);

// Frees a tree. NULL is none.
void json_free(struct json *tree);

// The member of that name, NULL where there is none. Of several it is the last, as elsewhere.
const struct json *json_member(const struct json *object, const char *name);

// Memory, zeroed. Where there is none left the program ends: the filter's failure policy says what becomes of the request.
void *allocate(size_t size);
