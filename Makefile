# Builds, installs and tests leadroute with PGXS, PostgreSQL's own build system for extensions.
#
# Two commands need nothing but make: `make demo` and `make test` install what is missing, build, and work in a private
# throw-away cluster. All other targets need PostgreSQL's server headers, found through PG_CONFIG. This file therefore
# also parses on a machine that has no PostgreSQL yet, and then offers only the targets that can help.
#
#   make, make install, make uninstall, make clean    as with any PGXS extension
#   make installcheck        tests against a running server that has the extension installed (PGHOST, PGPORT, ...)
#   make test                everything, in private clusters; TESTS="a b" runs only those
#   make demo                a guided tour; LEADS=file.csv routes your own file, KEEP=1 leaves the cluster up
#   make bench               the benchmark table
#   make docs, docs-check    writes, or compares, docs/reference.md from the comments in the catalog
#   make werror              compiles with gcc and with clang, warnings being errors, in a folder of its own
#
# PG_CONFIG=/path/to/pg_config chooses the PostgreSQL installation; DEPS=skip installs no packages.

EXTENSION = leadroute
EXTVERSION = 0.1
MODULE_big = leadroute
PGFILEDESC = "leadroute - lead routing inside the database"

OBJS = $(patsubst %.c,%.o,$(sort $(wildcard src/*.c src/*/*.c)))
SHLIB_LINK = -ljansson -lidn2 -lcrypto

# The install script is assembled from one file per part, in this order: whatever a part refers to stands before it.
SQL_PARTS = sql/header.sql sql/intake.sql sql/registry.sql sql/policy.sql sql/scoring.sql sql/agents.sql \
	sql/assignment.sql sql/calendars.sql sql/accounts.sql sql/counters.sql sql/provenance.sql sql/workers.sql sql/choosing.sql \
	sql/pipeline.sql sql/pauses.sql sql/tasks.sql sql/breakers.sql sql/task_views.sql sql/persons.sql \
	sql/afterwards.sql sql/events.sql sql/event_checks.sql sql/slas.sql sql/observe.sql sql/policy_evaluation.sql sql/policy_trials.sql \
	sql/policy_analysis.sql sql/policy_differences.sql sql/policy_drafts.sql sql/worker_status.sql sql/grants.sql
SQL_SCRIPT = sql/$(EXTENSION)--$(EXTVERSION).sql

DATA = $(wildcard sql/$(EXTENSION)--*--*.sql)
DATA_built = $(SQL_SCRIPT)

# The server's headers are system headers: their warnings are not ours, and our own flags can be strict.
PG_CPPFLAGS = -isystem $(includedir_server) -isystem $(includedir_internal) -Isrc
PG_CFLAGS = -Wall -Wextra -Wno-unused-parameter -Wno-missing-field-initializers -Wno-declaration-after-statement \
	-MMD -MP
# clang is given the flags that the server was built with, some of which only gcc knows.
ifneq (,$(findstring clang,$(CC)))
PG_CFLAGS += -Wno-unknown-warning-option -Wno-ignored-optimization-argument -Wno-unused-command-line-argument
endif

# pg_regress looks for a test's script in its output folder first, and sql/ at the top holds other files of the same
# names: the output goes to a folder of its own, which up to PostgreSQL 15 is also where expected/ is looked for.
RESULTS = test/results
REGRESS = $(patsubst test/sql/%.sql,%,$(sort $(wildcard test/sql/*.sql)))
REGRESS_OPTS = --inputdir=test --outputdir=$(RESULTS) --load-extension=$(EXTENSION)
REGRESS_PREP = results-folder
ISOLATION = $(patsubst test/specs/%.spec,%,$(sort $(wildcard test/specs/*.spec)))
ISOLATION_OPTS = --inputdir=test --outputdir=$(RESULTS)/isolation --load-extension=$(EXTENSION)

EXTRA_CLEAN = $(OBJS:.o=.d) $(RESULTS)

# Inlining across the library's border gains nothing here, and the bitcode for it needs exactly the clang that the
# server was built with; `make with_llvm=yes` asks for it. Dependencies are tracked above, for folders of equal names too.
override with_llvm := $(if $(filter command line,$(origin with_llvm)),$(with_llvm),no)
override autodepend := no

PG_CONFIG ?= pg_config
export PG_CONFIG
PGXS := $(shell $(PG_CONFIG) --pgxs 2>/dev/null)

.DEFAULT_GOAL := all

ifneq (,$(wildcard $(PGXS)))
include $(PGXS)
-include $(wildcard $(OBJS:.o=.d))
else
.PHONY: all install uninstall installcheck clean
all install uninstall installcheck:
	@echo "$(PG_CONFIG) does not lead to PostgreSQL's server headers." >&2
	@echo "Install them (test/deps does, on Debian), or say where they are: make PG_CONFIG=/path/to/pg_config" >&2
	@exit 1
clean:
	rm -rf $(OBJS) $(EXTRA_CLEAN) $(DATA_built) $(MODULE_big).so
endif

$(SQL_SCRIPT): $(SQL_PARTS) Makefile
	@for part in $(SQL_PARTS); do printf '\n-- %s\n\n' "$$part"; cat "$$part" || exit 1; done > $@.tmp
	@mv $@.tmp $@

$(OBJS): Makefile

.PHONY: results-folder test demo bench docs docs-check werror
results-folder:
	@mkdir -p $(RESULTS)/isolation
	@ln -sfn ../../expected $(RESULTS)/expected
	@ln -sfn ../../../expected $(RESULTS)/isolation/expected

test:
	@test/run

demo:
	@test/demo

bench:
	@test/bench/run

docs:
	@test/docs write

docs-check:
	@test/docs check

werror:
	@test/werror
