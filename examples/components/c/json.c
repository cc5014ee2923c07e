#include "json.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

// Each level takes a piece of the stack, and configurations have few.
enum { MAX_DEPTH = 32 };

struct reader {
    const uint8_t *text;
    size_t size;
    size_t at;
    int depth;
};

static bool read_value(struct reader *in, struct json *node);

void *allocate(size_t size) {
    void *memory = calloc(1, size);
    if (memory == NULL) {
        abort();
    }
    return memory;
}

// The next byte, or 0 at the end; outside of strings 0 is no part of JSON, and in them it is refused.
static uint8_t peek(const struct reader *in) {
    return in->at < in->size ? in->text[in->at] : 0;
}

static bool take(struct reader *in, char expected) {
    if (peek(in) != (uint8_t)expected) {
        return false;
    }
    in->at++;
    return true;
}

static void skip_space(struct reader *in) {
    while (take(in, ' ') || take(in, '\t') || take(in, '\n') || take(in, '\r')) {
    }
}

// The same for punctuation, which may have space around it.
static bool take_mark(struct reader *in, char expected) {
    skip_space(in);
    return take(in, expected);
}

static bool take_word(struct reader *in, const char *word) {
    const size_t size = strlen(word);
    if (in->size - in->at < size || memcmp(in->text + in->at, word, size) != 0) {
        return false;
    }
    in->at += size;
    return true;
}

static bool take_digits(struct reader *in) {
    const size_t start = in->at;
    while (peek(in) >= '0' && peek(in) <= '9') {
        in->at++;
    }
    return in->at > start;
}

static bool take_number(struct reader *in) {
    take(in, '-');
    // No digit may follow a leading zero; one that does is taken by nobody, and so is wrong.
    if (!take(in, '0') && !take_digits(in)) {
        return false;
    }
    if (take(in, '.') && !take_digits(in)) {
        return false;
    }
    if (take(in, 'e') || take(in, 'E')) {
        if (!take(in, '+')) {
            take(in, '-');
        }
        return take_digits(in);
    }
    return true;
}

static bool take_unit(struct reader *in, uint32_t *unit) {
    *unit = 0;
    for (int digit = 0; digit < 4; digit++) {
        const uint8_t byte = peek(in);
        if (byte >= '0' && byte <= '9') {
            *unit = *unit * 16 + (byte - '0');
        } else if ((byte | 0x20) >= 'a' && (byte | 0x20) <= 'f') {
            *unit = *unit * 16 + ((byte | 0x20) - 'a' + 10);
        } else {
            return false;
        }
        in->at++;
    }
    return true;
}

static void append_character(struct text *text, uint32_t character) {
    uint8_t *end = text->bytes + text->size;
    if (character < 0x80) {
        end[0] = (uint8_t)character;
        text->size += 1;
    } else if (character < 0x800) {
        end[0] = (uint8_t)(0xC0 | character >> 6);
        end[1] = (uint8_t)(0x80 | (character & 0x3F));
        text->size += 2;
    } else if (character < 0x10000) {
        end[0] = (uint8_t)(0xE0 | character >> 12);
        end[1] = (uint8_t)(0x80 | (character >> 6 & 0x3F));
        end[2] = (uint8_t)(0x80 | (character & 0x3F));
        text->size += 3;
    } else {
        end[0] = (uint8_t)(0xF0 | character >> 18);
        end[1] = (uint8_t)(0x80 | (character >> 12 & 0x3F));
        end[2] = (uint8_t)(0x80 | (character >> 6 & 0x3F));
        end[3] = (uint8_t)(0x80 | (character & 0x3F));
        text->size += 4;
    }
}

// What stands behind a backslash.
static bool read_escape(struct reader *in, struct text *text) {
    static const char escapes[] = "\"\"\\\\//b\bf\fn\nr\rt\t";
    for (const char *pair = escapes; *pair != '\0'; pair += 2) {
        if (take(in, pair[0])) {
            append_character(text, (uint8_t)pair[1]);
            return true;
        }
    }
    uint32_t character;
    if (!take(in, 'u') || !take_unit(in, &character)) {
        return false;
    }
    // A character past U+FFFF is written as two halves, the high one first; half a character is none.
    if (character >= 0xD800 && character < 0xE000) {
        uint32_t low;
        if (character >= 0xDC00 || !take_word(in, "\\u") || !take_unit(in, &low) || low < 0xDC00 || low >= 0xE000) {
            return false;
        }
        character = 0x10000 + ((character - 0xD800) << 10) + (low - 0xDC00);
    }
    append_character(text, character);
    return true;
}

// A string whose first quote has been taken.
static bool read_text(struct reader *in, struct text *text) {
    size_t close = in->at;
    while (close < in->size && in->text[close] != '"') {
        close += in->text[close] == '\\' ? 2 : 1;
    }
    if (close >= in->size) {
        return false;
    }
    // No character takes more bytes than its escape, so this is enough; and never 0, of which calloc may give NULL.
    text->bytes = allocate(close - in->at + 1);
    while (in->at < close) {
        const uint8_t byte = in->text[in->at++];
        if (byte < 0x20) {
            return false;
        }
        if (byte != '\\') {
            text->bytes[text->size++] = byte;
        } else if (!read_escape(in, text)) {
            return false;
        }
    }
    return take(in, '"');
}

// Members or elements, behind the bracket that opens them. Whatever has been read is part of the tree at once, so that nothing is lost
// where the rest is wrong.
static bool read_children(struct reader *in, struct json *parent) {
    const char close = parent->kind == JSON_OBJECT ? '}' : ']';
    if (take_mark(in, close)) {
        return true;
    }
    if (in->depth == MAX_DEPTH) {
        return false;
    }
    in->depth++;
    struct json **end = &parent->first;
    do {
        struct json *child = *end = allocate(sizeof *child);
        end = &child->next;
        if (parent->kind == JSON_OBJECT &&
            !(take_mark(in, '"') && read_text(in, &child->name) && take_mark(in, ':'))) {
            return false;
        }
        if (!read_value(in, child)) {
            return false;
        }
    } while (take_mark(in, ','));
    in->depth--;
    return take_mark(in, close);
}

static bool read_value(struct reader *in, struct json *node) {
    skip_space(in);
    if (take(in, '{')) {
        node->kind = JSON_OBJECT;
        return read_children(in, node);
    }
    if (take(in, '[')) {
        node->kind = JSON_ARRAY;
        return read_children(in, node);
    }
    if (take(in, '"')) {
        node->kind = JSON_STRING;
        return read_text(in, &node->string);
    }
    node->kind = JSON_SCALAR;
    return take_word(in, "true") || take_word(in, "false") || take_word(in, "null") || take_number(in);
}

struct json *json_parse(const uint8_t *text, size_t size) {
    struct reader in = {.text = text, .size = size};
    struct json *tree = allocate(sizeof *tree);
    if (read_value(&in, tree)) {
        skip_space(&in);
        if (in.at == in.size) {
            return tree;
        }
    }
    json_free(tree);
    return NULL;
}

void json_free(struct json *tree) {
    while (tree != NULL) {
        struct json *next = tree->next;
        json_free(tree->first);
        free(tree->name.bytes);
        free(tree->string.bytes);
        free(tree);
        tree = next;
    }
}

const struct json *json_member(const struct json *object, const char *name) {
    const size_t size = strlen(name);
    const struct json *found = NULL;
    if (object->kind != JSON_OBJECT) {
        return NULL;
    }
    for (const struct json *member = object->first; member != NULL; member = member->next) {
        if (member->name.size == size && memcmp(member->name.bytes, name, size) == 0) {
            found = member;
        }
    }
    return found;
}
