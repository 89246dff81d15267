package docs_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// files returns the files of the repository with the ending, by their paths from its root.
func files(t *testing.T, ending string) (paths []string) {
	t.Helper()
	err := filepath.WalkDir("..", func(path string, entry fs.DirEntry, err error) error {
		name := entry.Name()
		switch {
		case err != nil:
			return err
		case entry.IsDir() && (name == "node_modules" || len(name) > 2 && name[0] == '.'):
			return fs.SkipDir
		case !entry.IsDir() && strings.HasSuffix(name, ending):
			paths = append(paths, path[len("../"):])
		}
		return nil
	})
	require.NoError(t, err)
	return paths
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", path))
	require.NoError(t, err)
	return string(text)
}

var (
	fence = regexp.MustCompile("(?ms)^```.*?^```")
	code  = regexp.MustCompile("`[^`\n]*`")
	link  = regexp.MustCompile(`\]\(([^)\s]+)\)|(?m)^\[[^\]]+\]: (\S+)`)
)

// A link within the repository leads to a file, and to a heading of it if it names one.
func TestLinks(t *testing.T) {
	t.Parallel()
	documents := files(t, ".md")
	require.GreaterOrEqual(t, len(documents), 30)
	for _, document := range documents {
		if document == "CHANGELOG.md" { // tells of what was
			continue
		}
		text := code.ReplaceAllString(fence.ReplaceAllString(read(t, document), ""), "")
		for _, match := range link.FindAllStringSubmatch(text, -1) {
			target := match[1] + match[2]
			if strings.Contains(target, "://") || strings.HasPrefix(target, "mailto:") {
				continue
			}
			path, anchor, _ := strings.Cut(target, "#")
			if path == "" {
				path = document
			} else {
				path = filepath.Join(filepath.Dir(document), path)
			}
			if _, err := os.Stat(filepath.Join("..", path)); err != nil {
				t.Errorf("%s: %s is not there", document, target)
				continue
			}
			if anchor != "" && !slices.Contains(anchors(read(t, path)), anchor) {
				t.Errorf("%s: %s has no such heading", document, target)
			}
		}
	}
}

var (
	heading = regexp.MustCompile(`(?m)^#+ (.*)$`)
	dropped = regexp.MustCompile(`[^\p{L}\p{N} _-]`)
)

// anchors are the names under which GitHub shows the headings of a document.
func anchors(text string) (names []string) {
	for _, match := range heading.FindAllStringSubmatch(fence.ReplaceAllString(text, ""), -1) {
		name := dropped.ReplaceAllString(strings.ToLower(match[1]), "")
		names = append(names, strings.ReplaceAll(name, " ", "-"))
	}
	return names
}

// Who opens the folder finds every document in it.
func TestIndexIsComplete(t *testing.T) {
	t.Parallel()
	documents, err := filepath.Glob("*.md")
	require.NoError(t, err)
	index := read(t, "docs/README.md")
	for _, document := range documents {
		if document != "README.md" {
			require.True(t, strings.Contains(index, "]("+document+")"), "docs/README.md does not lead to %s", document)
		}
	}
}

// tests returns the tests of the repository by the folder that they are in.
func tests(t *testing.T) map[string][]string {
	t.Helper()
	found := map[string][]string{}
	for _, path := range files(t, "_test.go") {
		parsed, err := parser.ParseFile(token.NewFileSet(), filepath.Join("..", path), nil, parser.SkipObjectResolution)
		require.NoError(t, err)
		for _, declaration := range parsed.Decls {
			f, ok := declaration.(*ast.FuncDecl)
			if ok && f.Recv == nil && strings.HasPrefix(f.Name.Name, "Test") {
				found[filepath.Dir(path)] = append(found[filepath.Dir(path)], f.Name.Name)
			}
		}
	}
	return found
}

var (
	testName = regexp.MustCompile("`(Test\\w+)`")
	run      = regexp.MustCompile(`scripts/test -run '([^']+)'((?: (?:\\\n *)?\./\S+)+)`)
)

// Each guarantee names tests that there are, and commands that run them.
func TestGuaranteesAreTested(t *testing.T) {
	t.Parallel()
	there := tests(t)
	all := slices.Concat(slices.Collect(maps.Values(there))...)
	guarantees := 0
	for section := range strings.SplitSeq(read(t, "docs/guarantees.md"), "\n## ") {
		title, text, _ := strings.Cut(section, "\n")
		for _, match := range testName.FindAllStringSubmatch(text, -1) {
			require.True(t, slices.Contains(all, match[1]), "%s: there is no %s", title, match[1])
		}
		if !strings.Contains(text, "**How.**") {
			continue
		}
		guarantees++
		require.True(t, strings.Contains(text, "**Limits.**") && strings.Contains(text, "**Tested by**"), title)
		commands := run.FindAllStringSubmatch(text, -1)
		require.NotEmpty(t, commands, title)
		require.Len(t, commands, strings.Count(text, "scripts/test"), title)
		for _, command := range commands {
			checkCommand(t, there, command[1], strings.Fields(strings.ReplaceAll(command[2], "\\", " ")))
		}
	}
	require.GreaterOrEqual(t, guarantees, 10)
}

// checkCommand sees to it that each part of a pattern finds a test in the packages, and each package has one.
func checkCommand(t *testing.T, there map[string][]string, pattern string, packages []string) {
	t.Helper()
	var names []string
	for _, p := range packages {
		here := there[strings.TrimPrefix(p, "./")]
		require.True(t, slices.ContainsFunc(here, regexp.MustCompile(pattern).MatchString), "%s has no %s", p, pattern)
		names = append(names, here...)
	}
	inner := strings.TrimSuffix(strings.TrimPrefix(pattern, "^("), ")$")
	for part := range strings.SplitSeq(inner, "|") {
		if inner != pattern {
			part = "^" + part + "$"
		}
		require.True(t, slices.ContainsFunc(names, regexp.MustCompile(part).MatchString), "%v have no %s", packages, part)
	}
}

var row = regexp.MustCompile("(?m)^\\| `([^`]+)` \\|")

// What operations.md says of log lines is what the code logs.
func TestLogMessages(t *testing.T) {
	t.Parallel()
	_, section, found := strings.Cut(read(t, "docs/operations.md"), "\n## Logs\n")
	require.True(t, found)
	section, _, _ = strings.Cut(section, "\n## ")
	var sources strings.Builder
	for _, path := range files(t, ".go") {
		if strings.HasPrefix(path, "internal/") && !strings.HasSuffix(path, "_test.go") {
			sources.WriteString(read(t, path))
		}
	}
	rows := row.FindAllStringSubmatch(section, -1)
	require.GreaterOrEqual(t, len(rows), 10)
	for _, match := range rows {
		require.True(t, strings.Contains(sources.String(), `"`+match[1]+`"`), "nothing logs %q", match[1])
	}
}

var program = regexp.MustCompile("(?ms)^```(go|ts)\n(.*?)^```")

// The programs on the front page are lines of the SDKs' own documents, which are compiled and run.
func TestProgramsAreOfTheSDKs(t *testing.T) {
	t.Parallel()
	sources := map[string]string{"go": read(t, "sdk/go/README.md"), "ts": read(t, "sdk/typescript/README.md")}
	programs := program.FindAllStringSubmatch(read(t, "README.md"), -1)
	require.Len(t, programs, 2)
	for _, p := range programs {
		for line := range strings.Lines(p[2]) {
			require.True(t, strings.Contains(sources[p[1]], "\n"+line), "the SDK's document lacks %q", line)
		}
	}
}
