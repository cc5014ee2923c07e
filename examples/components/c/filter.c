// Lets requests of known teams pass. The configuration is {"header": "x-team", "teams": ["red", "blue"]}: a request whose header names
// none of them is answered with 403; the upstream and the client of another are told the team.
//
// Who frees what: strings and lists that the host returns are the filter's, those that it passes to the host are only lent.

#include <stdlib.h>
#include <string.h>

#include "head_filter.h"
#include "json.h"

typedef tidegate_filter_http_borrow_exchange_t exchange_t;
typedef tidegate_filter_http_action_t action_t;
typedef head_filter_list_u8_t bytes_t;
typedef head_filter_string_t string_t;

// The configuration of a plugin, and what it points to. The tree is kept as it is.
struct configuration {
    struct configuration *next;
    uint32_t plugin;
    struct json *tree;
    string_t header;
    const struct json *teams;
};

// Those of all plugins: Filters of one namespace may share this component.
static struct configuration *configurations;

// The link to a plugin's configuration, or to NULL where it would be.
static struct configuration **link_to_configuration(uint32_t plugin) {
    struct configuration **link = &configurations;
    while (*link != NULL && (*link)->plugin != plugin) {
        link = &(*link)->next;
    }
    return link;
}

// The team of an exchange under way. It has a copy: a new configuration may come in between.
struct passing {
    struct passing *next;
    uint32_t id;
    size_t size;
    uint8_t team[];
};

// Exchanges under way, by number: a list for each remainder.
enum { LISTS = 64 };
static struct passing *passing[LISTS];

// The link to an exchange, or to NULL where it would be.
static struct passing **link_to(uint32_t id) {
    struct passing **link = &passing[id % LISTS];
    while (*link != NULL && (*link)->id != id) {
        link = &(*link)->next;
    }
    return link;
}

static string_t string(const char *text) {
    string_t string;
    head_filter_string_set(&string, text);
    return string;
}

static bytes_t bytes(const char *text) {
    return (bytes_t){(uint8_t *)text, strlen(text)};
}

// Ends the program where the host has not done what this filter cannot go on without: the failure policy says what becomes of the
// request, which would otherwise wait for an answer for ever, or pass unmarked.
static void require(bool done) {
    if (!done) {
        abort();
    }
}

// Whether this can be the name of a header (RFC 9110 section 5.1): where text comes from outside, the host takes none that is not UTF-8.
static bool is_name(const struct text *text) {
    static const char marks[] = "!#$%&'*+-.^_`|~";
    for (size_t at = 0; at < text->size; at++) {
        const uint8_t byte = text->bytes[at];
        const bool letter = (byte | 0x20) >= 'a' && (byte | 0x20) <= 'z';
        const bool digit = byte >= '0' && byte <= '9';
        if (!letter && !digit && memchr(marks, byte, sizeof marks - 1) == NULL) {
            return false;
        }
    }
    return text->size > 0;
}

// What is wrong with a configuration, or NULL.
static const char *fault(const struct json *tree) {
    if (tree == NULL) {
        return "the configuration is not JSON";
    }
    const struct json *header = json_member(tree, "header");
    if (header != NULL && (header->kind != JSON_STRING || !is_name(&header->string))) {
        return "field `header`: write the name of a header";
    }
    const struct json *teams = json_member(tree, "teams");
    if (teams == NULL || teams->kind != JSON_ARRAY || teams->first == NULL) {
        return "field `teams`: name at least one team";
    }
    for (const struct json *team = teams->first; team != NULL; team = team->next) {
        if (team->kind != JSON_STRING) {
            return "field `teams`: write each team as a string";
        }
    }
    return NULL;
}

static void serve_with(uint32_t plugin, struct json *tree) {
    struct configuration **link = link_to_configuration(plugin);
    if (*link == NULL) {
        *link = allocate(sizeof **link);
        (*link)->plugin = plugin;
    }
    struct configuration *configuration = *link;
    json_free(configuration->tree);
    configuration->tree = tree;
    const struct json *header = json_member(tree, "header");
    configuration->header = header == NULL ? string("x-team") : (string_t){header->string.bytes, header->string.size};
    configuration->teams = json_member(tree, "teams");
}

bool exports_tidegate_filter_on_plugin_configure(tidegate_filter_http_own_plugin_t plugin, string_t *error) {
    const tidegate_filter_http_borrow_plugin_t lent = tidegate_filter_http_borrow_plugin(plugin);
    const uint32_t id = tidegate_filter_http_method_plugin_id(lent);
    bytes_t text;
    tidegate_filter_http_method_plugin_configuration(lent, &text);
    tidegate_filter_http_plugin_drop_own(plugin);
    struct json *tree = text.len == 0 ? json_parse((const uint8_t *)"{}", 2) : json_parse(text.ptr, text.len);
    head_filter_list_u8_free(&text);

    const char *wrong = fault(tree);
    if (wrong != NULL) {
        json_free(tree);
        // The bindings free it when the host has read it, so it has to be a copy.
        head_filter_string_dup(error, wrong);
        return false;
    }
    serve_with(id, tree);
    return true;
}

void exports_tidegate_filter_on_plugin_remove(uint32_t id) {
    struct configuration **link = link_to_configuration(id);
    struct configuration *removed = *link;
    if (removed != NULL) {
        *link = removed->next;
        json_free(removed->tree);
        free(removed);
    }
}

// The configuration that an exchange is under: no exchange passes a plugin without one.
static struct configuration *configuration_of(exchange_t exchange) {
    tidegate_filter_http_own_plugin_t plugin = tidegate_filter_http_method_exchange_plugin(exchange);
    const uint32_t id = tidegate_filter_http_method_plugin_id(tidegate_filter_http_borrow_plugin(plugin));
    tidegate_filter_http_plugin_drop_own(plugin);
    struct configuration *configuration = *link_to_configuration(id);
    require(configuration != NULL);
    return configuration;
}

static bool is_known(const struct json *teams, const bytes_t *value) {
    for (const struct json *team = teams->first; team != NULL; team = team->next) {
        if (team->string.size == value->len && memcmp(team->string.bytes, value->ptr, value->len) == 0) {
            return true;
        }
    }
    return false;
}

static void remember(uint32_t id, const bytes_t *team) {
    struct passing **link = link_to(id);
    struct passing *added = allocate(sizeof *added + team->len);
    added->next = *link;
    added->id = id;
    added->size = team->len;
    memcpy(added->team, team->ptr, team->len);
    *link = added;
}

static void log_refusal(const bytes_t *team) {
    static const char start[] = "refused: ";
    const bytes_t who = team->len == 0 ? bytes("no team") : *team;
    const size_t size = sizeof start - 1 + who.len;
    string_t line = {allocate(size), size};
    memcpy(line.ptr, start, sizeof start - 1);
    for (size_t at = 0; at < who.len; at++) {
        // A string has to be UTF-8; the value of a header can be any bytes.
        const bool printable = who.ptr[at] >= 0x20 && who.ptr[at] < 0x7F;
        line.ptr[sizeof start - 1 + at] = printable ? who.ptr[at] : '?';
    }
    tidegate_filter_log_write(TIDEGATE_FILTER_LOG_LEVEL_INFO, &line);
    head_filter_string_free(&line);
}

static void refuse(exchange_t exchange) {
    string_t details = string("unknown_team");
    tidegate_filter_http_field_t field = {string("content-type"), bytes("application/json")};
    tidegate_filter_http_list_field_t headers = {&field, 1};
    bytes_t body = bytes("{\"error\":\"unknown team\"}");
    tidegate_filter_http_error_t error;
    require(tidegate_filter_http_method_exchange_reply(exchange, 403, &details, &headers, &body, NULL, &error));
}

static void set_header(exchange_t exchange, tidegate_filter_http_header_map_t map, const char *name, bytes_t value) {
    string_t lent = string(name);
    tidegate_filter_http_error_t error;
    require(tidegate_filter_http_method_exchange_set_header(exchange, map, &lent, &value, &error));
}

action_t exports_tidegate_filter_on_request_headers(exchange_t exchange, bool end_of_stream) {
    (void)end_of_stream;
    struct configuration *configuration = configuration_of(exchange);
    // What it stays where there is no such header.
    bytes_t team = bytes("");
    tidegate_filter_http_method_exchange_header(exchange, TIDEGATE_FILTER_HTTP_HEADER_MAP_REQUEST_HEADERS, &configuration->header, &team);
    const bool known = is_known(configuration->teams, &team);
    if (known) {
        remember(tidegate_filter_http_method_exchange_id(exchange), &team);
        set_header(exchange, TIDEGATE_FILTER_HTTP_HEADER_MAP_REQUEST_HEADERS, "x-team-known", bytes("yes"));
    } else {
        log_refusal(&team);
        refuse(exchange);
    }
    head_filter_list_u8_free(&team);
    return known ? TIDEGATE_FILTER_TYPES_ACTION_CONTINUE : TIDEGATE_FILTER_TYPES_ACTION_PAUSE;
}

action_t exports_tidegate_filter_on_response_headers(exchange_t exchange, bool end_of_stream) {
    (void)end_of_stream;
    struct passing *found = *link_to(tidegate_filter_http_method_exchange_id(exchange));
    if (found != NULL) {
        const bytes_t team = {found->team, found->size};
        set_header(exchange, TIDEGATE_FILTER_HTTP_HEADER_MAP_RESPONSE_HEADERS, "x-served-team", team);
    }
    return TIDEGATE_FILTER_TYPES_ACTION_CONTINUE;
}

void exports_tidegate_filter_on_end_end(uint32_t id) {
    struct passing **link = link_to(id);
    struct passing *over = *link;
    if (over != NULL) {
        *link = over->next;
        free(over);
    }
}
