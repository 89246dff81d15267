package internal_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/stretchr/testify/require"

	"github.com/keymeter/keymeter"
)

const (
	module = "github.com/keymeter/keymeter/"
	echo   = "github.com/labstack/echo/v4"
	stripe = "github.com/stripe/stripe-go/v76"
	pgx    = "github.com/jackc/pgx/v5"
)

// domain is the packages that say what the business is. They know neither HTTP nor Stripe.
var domain = []string{
	"internal/accounts", "internal/billing", "internal/credits", "internal/idempotency", "internal/keys", "internal/plans",
}

// mayImport is which packages of this module each may import, tests aside. "*" is all that no other rule forbids.
var mayImport = map[string]string{
	"internal/fault":       "",
	"internal/ids":         "",
	"internal/postgres":    "db",
	"internal/plans":       "",
	"internal/leases":      "gen/queries internal/postgres",
	"internal/ratelimit":   "gen/queries internal/postgres",
	"internal/accounts":    "gen/queries internal/fault internal/ids internal/leases internal/plans internal/postgres",
	"internal/keys":        "gen/queries internal/fault internal/ids internal/leases internal/plans internal/postgres",
	"internal/credits":     "gen/queries internal/fault internal/ids internal/plans internal/postgres",
	"internal/idempotency": "gen/queries internal/fault internal/postgres",
	"internal/billing": "gen/queries internal/accounts internal/credits internal/fault internal/ids internal/plans " +
		"internal/postgres",
	"internal/stripe": "internal/billing internal/fault internal/plans",
	"internal/httpapi": ". gen/api internal/accounts internal/billing internal/credits internal/fault " +
		"internal/httpapi/web internal/idempotency internal/ids internal/keys internal/plans internal/postgres " +
		"internal/ratelimit",
	"internal/httpapi/web": ".",
	"internal/app":         "*",
	"internal/devpostgres": "",
	"internal/stripesim":   "",
	"internal/testkit":     "db internal/devpostgres internal/ids internal/postgres",
}

// mustNotReach is what a package does not depend on, however far away. A name stands for what is below it, too.
func mustNotReach() map[string][]string {
	development := []string{module + "internal/devpostgres", module + "internal/stripesim", module + "internal/testkit"}
	testOnly := []string{
		"testing", "github.com/stripe/stripe-mock", "github.com/stretchr/testify", "pgregory.net/rapid", "go.uber.org/goleak",
	}
	rules := map[string][]string{
		"internal/stripe": {module + "gen/api", module + "internal/httpapi", echo},
		"internal/httpapi": append([]string{
			module + "internal/stripe", module + "internal/app", stripe,
		}, development...),
		"internal/app":       slices.Concat(development, testOnly),
		"cmd/keymeter":       slices.Concat(development, testOnly),
		"internal/stripesim": {stripe, module + "db", module + "gen"},
		"internal/postgres":  {"net/http"},
	}
	for _, name := range domain {
		rules[name] = slices.Concat(development, testOnly, []string{
			"net/http", echo, stripe, module + "gen/api", module + "internal/app",
			module + "internal/httpapi", module + "internal/stripe",
		})
	}
	// What a test in a package of the domain uses can't depend on that package.
	for _, name := range domain {
		rules["internal/testkit"] = append(rules["internal/testkit"], module+name)
	}
	return rules
}

// importedBy is the only packages that may import something directly, tests aside.
var importedBy = map[string][]string{
	echo:               {"gen/api", "internal/httpapi", "internal/httpapi/web", "bench"},
	module + "gen/api": {"internal/httpapi", "internal/httpapi/web"},
	stripe:             {"internal/stripe"},
	// leases listens on a connection of its own; credits sends the statements of a batch together.
	pgx: {
		"gen/queries", "internal/devpostgres", "internal/postgres", "internal/testkit", "internal/leases", "internal/credits",
		"bench",
	},
	module + "internal/app":         {"cmd/keymeter", "cmd/dev"},
	module + "internal/devpostgres": {"cmd/dev", "internal/testkit", "bench"},
	module + "internal/stripesim":   {"cmd/dev"},
	module + "internal/testkit":     {},
}

type goPackage struct {
	ImportPath, Dir           string
	GoFiles, Imports, Deps    []string
	TestGoFiles, XTestGoFiles []string
}

// packages lists the packages of this module, by their path in it. "." is its root.
var packages = sync.OnceValues(func() (map[string]goPackage, error) {
	cmd := exec.Command("go", "list", "-json=ImportPath,Dir,GoFiles,Imports,Deps,TestGoFiles,XTestGoFiles", "./...")
	cmd.Dir = ".."
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go list: %w: %s", err, stderr.String())
	}
	found := map[string]goPackage{}
	for decoder := json.NewDecoder(bytes.NewReader(out)); ; {
		var p goPackage
		err := decoder.Decode(&p)
		if errors.Is(err, io.EOF) {
			return found, nil
		}
		if err != nil {
			return nil, err
		}
		found[inModule(p.ImportPath)] = p
	}
})

func inModule(importPath string) string {
	if importPath+"/" == module {
		return "."
	}
	return strings.TrimPrefix(importPath, module)
}

func listPackages(t *testing.T) map[string]goPackage {
	t.Helper()
	found, err := packages()
	require.NoError(t, err)
	require.NotEmpty(t, found)
	return found
}

func below(importPath, root string) bool {
	return importPath == root || strings.HasPrefix(importPath, root+"/")
}

func TestImports(t *testing.T) {
	t.Parallel()
	all := listPackages(t)
	for name, p := range all {
		if !strings.HasPrefix(name, "internal/") {
			continue
		}
		allowed, ok := mayImport[name]
		if !ok {
			t.Errorf("%s is new: say in mayImport what it may import", name)
			continue
		}
		for _, imported := range p.Imports {
			local := inModule(imported)
			if (local != imported) && allowed != "*" && !slices.Contains(strings.Fields(allowed), local) {
				t.Errorf("%s must not import %s", name, local)
			}
		}
	}
	for name := range mayImport {
		require.Contains(t, all, name, "a package of mayImport")
	}
}

func TestReach(t *testing.T) {
	t.Parallel()
	all := listPackages(t)
	for name, forbidden := range mustNotReach() {
		require.Contains(t, all, name, "a package of mustNotReach")
		for _, dependency := range all[name].Deps {
			for _, root := range forbidden {
				if below(dependency, root) {
					t.Errorf("%s must not depend on %s", name, dependency)
				}
			}
		}
	}
}

func TestImporters(t *testing.T) {
	t.Parallel()
	for name, p := range listPackages(t) {
		for root, importers := range importedBy {
			for _, imported := range p.Imports {
				if below(imported, root) && !slices.Contains(importers, name) {
					t.Errorf("%s must not import %s", name, imported)
				}
			}
		}
	}
}

// source is a file of Go code that is not a test.
type source struct {
	pkg, name string
	file      *ast.File
}

func (s source) imports(path string) bool {
	return slices.ContainsFunc(s.file.Imports, func(i *ast.ImportSpec) bool { return i.Path.Value == strconv.Quote(path) })
}

// sources parses the files of the packages whose name has one of the prefixes.
func sources(t *testing.T, files *token.FileSet, prefixes ...string) []source {
	t.Helper()
	var found []source
	for name, p := range listPackages(t) {
		if !slices.ContainsFunc(prefixes, func(prefix string) bool { return below(name, prefix) }) {
			continue
		}
		for _, file := range p.GoFiles {
			parsed, err := parser.ParseFile(files, filepath.Join(p.Dir, file), nil, parser.SkipObjectResolution)
			require.NoError(t, err)
			found = append(found, source{name, file, parsed})
		}
	}
	require.NotEmpty(t, found)
	return found
}

// SQL is in the files whose names say store.
func TestQueriesAreInStores(t *testing.T) {
	t.Parallel()
	stores := 0
	for _, s := range sources(t, token.NewFileSet(), "internal", "cmd") {
		if s.imports(module + "gen/queries") {
			require.Regexp(t, `^(report_)?store(_[a-z]+)?\.go$`, s.name, "%s/%s must not import gen/queries", s.pkg, s.name)
			require.Contains(t, append([]string{"internal/leases", "internal/ratelimit"}, domain...), s.pkg)
			stores++
		}
	}
	require.Positive(t, stores)
}

// The domain takes the time from outside, so that a test can set it, and does nothing before main.
func TestDomainIsToldTheTime(t *testing.T) {
	t.Parallel()
	files := token.NewFileSet()
	for _, s := range sources(t, files, domain...) {
		ast.Inspect(s.file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.SelectorExpr: // also where it is passed on without a call
				if x, ok := n.X.(*ast.Ident); ok && x.Name == "time" && slices.Contains([]string{"Now", "Since", "Until"}, n.Sel.Name) {
					t.Errorf("%s: the domain is told the time", files.Position(n.Pos()))
				}
			case *ast.FuncDecl:
				if n.Name.Name == "init" && n.Recv == nil {
					t.Errorf("%s: nothing happens before main", files.Position(n.Pos()))
				}
			}
			return true
		})
	}
}

// What sqlc generates does not show in the API of the domain: the tables are its own affair.
func TestDomainHidesItsTables(t *testing.T) {
	t.Parallel()
	compiled := exports(t)
	from := importer.ForCompiler(token.NewFileSet(), "gc", func(path string) (io.ReadCloser, error) { return os.Open(compiled[path]) })
	for _, name := range domain {
		pkg, err := from.Import(module + name)
		require.NoError(t, err)
		for _, exported := range pkg.Scope().Names() {
			object := pkg.Scope().Lookup(exported)
			if !object.Exported() {
				continue
			}
			if found := generated(object.Type(), map[types.Type]bool{}); found != "" {
				t.Errorf("%s.%s shows %s", name, exported, found)
			}
		}
	}
}

// exports returns the files with what the compiler knows of the domain's packages and of all that they use.
func exports(t *testing.T) map[string]string {
	t.Helper()
	args := []string{"list", "-export", "-deps", "-f", "{{.ImportPath}} {{.Export}}"}
	for _, name := range domain {
		args = append(args, module+name)
	}
	out, err := exec.CommandContext(t.Context(), "go", args...).Output()
	require.NoError(t, err)
	found := map[string]string{}
	for line := range strings.Lines(string(out)) {
		path, file, _ := strings.Cut(strings.TrimSpace(line), " ")
		found[path] = file
	}
	return found
}

// generated returns the name of a type of gen/queries that a user of t can see, "" if none.
func generated(t types.Type, seen map[types.Type]bool) string {
	if seen[t] {
		return ""
	}
	seen[t] = true
	first := func(all ...types.Type) string {
		for _, t := range all {
			if found := generated(t, seen); found != "" {
				return found
			}
		}
		return ""
	}
	switch t := t.(type) {
	case *types.Named:
		if pkg := t.Obj().Pkg(); pkg != nil && pkg.Path() == module+"gen/queries" {
			return t.Obj().Name()
		} else if pkg == nil || !strings.HasPrefix(pkg.Path(), module) {
			return ""
		}
		shown := []types.Type{t.Underlying()}
		for method := range t.Methods() {
			if method.Exported() {
				shown = append(shown, method.Type())
			}
		}
		return first(shown...)
	case *types.Alias:
		return first(types.Unalias(t))
	case *types.Struct:
		for field := range t.Fields() {
			if field.Exported() || field.Embedded() {
				if found := first(field.Type()); found != "" {
					return found
				}
			}
		}
	case *types.Interface:
		for method := range t.Methods() {
			if found := first(method.Type()); found != "" {
				return found
			}
		}
	case *types.Signature:
		return first(t.Params(), t.Results())
	case *types.Tuple:
		for v := range t.Variables() {
			if found := first(v.Type()); found != "" {
				return found
			}
		}
	case *types.Map:
		return first(t.Key(), t.Elem())
	case interface{ Elem() types.Type }: // pointers, slices, arrays, channels
		return first(t.Elem())
	}
	return ""
}

// The codes that refusals have are those that the contract lists.
func TestErrorCodes(t *testing.T) {
	t.Parallel()
	files := token.NewFileSet()
	used := map[string]string{}
	for _, s := range sources(t, files, "internal", "cmd") {
		ast.Inspect(s.file, func(n ast.Node) bool {
			for code, at := range codes(t, s, n) {
				used[code] = files.Position(at).String()
			}
			return true
		})
	}
	doc, err := openapi3.NewLoader().LoadFromData(keymeter.Contract)
	require.NoError(t, err)
	listed := map[string]bool{}
	for _, code := range doc.Components.Schemas["ErrorCode"].Value.Enum {
		listed[code.(string)] = true
		require.Contains(t, used, code, "the contract lists a code that nothing answers with")
	}
	for _, code := range slices.Sorted(maps.Keys(used)) {
		require.True(t, listed[code], "%s: code %q is not in the contract's ErrorCode", used[code], code)
	}
}

// codes returns the codes of the refusals that a node makes. Each has to be a literal.
func codes(t *testing.T, s source, n ast.Node) map[string]token.Pos {
	var code ast.Expr
	switch n := n.(type) {
	case *ast.CallExpr:
		if called, ok := n.Fun.(*ast.SelectorExpr); !ok || called.Sel.Name != "New" || !isIdent(called.X, "fault") {
			return nil
		}
		code = n.Args[1]
	case *ast.CompositeLit:
		if of, ok := n.Type.(*ast.SelectorExpr); !ok || of.Sel.Name != "Error" || !isIdent(of.X, "fault") {
			if s.pkg != "internal/fault" || !isIdent(n.Type, "Error") {
				return nil
			}
		}
		for _, element := range n.Elts {
			if pair, ok := element.(*ast.KeyValueExpr); ok && isIdent(pair.Key, "Code") {
				code = pair.Value
			}
		}
		if s.pkg == "internal/fault" && isIdent(code, "code") { // fault.New itself
			return nil
		}
	default:
		return nil
	}
	literal, ok := code.(*ast.BasicLit)
	if !ok {
		t.Errorf("a code in %s/%s is not a literal, so it can't be checked", s.pkg, s.name)
		return nil
	}
	value, err := strconv.Unquote(literal.Value)
	require.NoError(t, err)
	return map[string]token.Pos{value: literal.Pos()}
}

func isIdent(e ast.Node, name string) bool {
	identifier, ok := e.(*ast.Ident)
	return ok && identifier.Name == name
}

// alone are the tests that can't share the process with others while they run.
var alone = map[string]bool{
	"TestMain":                          true,
	"TestWait_latency":                  true, // measures
	"TestTakeFromMemoryDoesNotAllocate": true, // testing.AllocsPerRun refuses
}

// Tests run at the same time as others, so that they are fast and find what does not bear company.
func TestTestsAreParallel(t *testing.T) {
	t.Parallel()
	for name, p := range listPackages(t) {
		for _, file := range slices.Concat(p.TestGoFiles, p.XTestGoFiles) {
			parsed, err := parser.ParseFile(token.NewFileSet(), filepath.Join(p.Dir, file), nil, parser.SkipObjectResolution)
			require.NoError(t, err)
			for _, declaration := range parsed.Decls {
				f, ok := declaration.(*ast.FuncDecl)
				if ok && f.Recv == nil && strings.HasPrefix(f.Name.Name, "Test") && !alone[f.Name.Name] && !callsParallel(f) {
					t.Errorf("%s/%s: %s is not parallel", name, file, f.Name.Name)
				}
			}
		}
	}
}

func callsParallel(f *ast.FuncDecl) bool {
	found := false
	ast.Inspect(f.Body, func(n ast.Node) bool {
		if s, ok := n.(*ast.SelectorExpr); ok && s.Sel.Name == "Parallel" && isIdent(s.X, "t") {
			found = true
		}
		return !found
	})
	return found
}

// docs/errors.md has an entry for each code.
func TestErrorDocs(t *testing.T) {
	t.Parallel()
	doc, err := openapi3.NewLoader().LoadFromData(keymeter.Contract)
	require.NoError(t, err)
	text, err := os.ReadFile("../docs/errors.md")
	require.NoError(t, err)
	var entries []any
	for line := range strings.Lines(string(text)) {
		if code, ok := strings.CutPrefix(line, "## "); ok {
			entries = append(entries, strings.TrimSpace(code))
		}
	}
	require.Equal(t, doc.Components.Schemas["ErrorCode"].Value.Enum, entries)
}
