package httpapi_test

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
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// The codes that the code refuses with, that the contract lists, that its answers show, and that docs/errors.md explains
// are the same.
func TestErrorCodes(t *testing.T) {
	t.Parallel()
	doc, err := oracle.doc()
	require.NoError(t, err)
	var listed []string
	for _, code := range doc.Components.Schemas["ErrorCode"].Value.Enum {
		listed = append(listed, code.(string))
	}
	require.True(t, slices.IsSorted(listed))

	require.Equal(t, listed, codesInSource(t), "of the source")

	manual, err := os.ReadFile("../../docs/errors.md")
	require.NoError(t, err)
	var explained []string
	for _, heading := range regexp.MustCompile(`(?m)^## (.*)$`).FindAllStringSubmatch(string(manual), -1) {
		explained = append(explained, heading[1])
	}
	require.Equal(t, listed, explained, "of docs/errors.md")

	shown := map[string]bool{"method_not_allowed": true} // where there is no operation, there is no answer to show it
	for _, item := range doc.Paths.Map() {
		for _, op := range item.Operations() {
			for _, a := range answers(op) {
				if a.code != "" {
					shown[a.code] = true
				}
			}
		}
	}
	require.Equal(t, listed, slices.Sorted(maps.Keys(shown)), "of the contract's answers")
	for code := range shown {
		if example := doc.Components.Examples[code]; example != nil {
			require.Equal(t, code, example.Value.Value.(map[string]any)["code"])
		}
	}
}

// codesInSource are the codes that refusals are made with: the second argument of fault.New, and the Code of a
// fault.Error.
func codesInSource(t *testing.T) []string {
	t.Helper()
	found := map[string]bool{}
	add := func(of ast.Expr) {
		literal, ok := of.(*ast.BasicLit)
		if !ok { // fault itself passes one on
			return
		}
		code, err := strconv.Unquote(literal.Value)
		require.NoError(t, err)
		found[code] = true
	}
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		ast.Inspect(file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.CallExpr:
				if isFault(n.Fun, file, "New") {
					require.Len(t, n.Args, 3)
					require.IsType(t, &ast.BasicLit{}, n.Args[1], "%s: a code that can't be read here", path)
					add(n.Args[1])
				}
			case *ast.CompositeLit:
				if !isFault(n.Type, file, "Error") {
					return true
				}
				for _, element := range n.Elts {
					if pair, ok := element.(*ast.KeyValueExpr); ok && pair.Key.(*ast.Ident).Name == "Code" {
						add(pair.Value)
					}
				}
			}
			return true
		})
		return nil
	})
	require.NoError(t, err)
	return slices.Sorted(maps.Keys(found))
}

// isFault reports whether an expression is a name of package fault.
func isFault(of ast.Expr, file *ast.File, name string) bool {
	if selector, ok := of.(*ast.SelectorExpr); ok {
		pkg, ok := selector.X.(*ast.Ident)
		return ok && pkg.Name == "fault" && selector.Sel.Name == name
	}
	ident, ok := of.(*ast.Ident)
	return ok && file.Name.Name == "fault" && ident.Name == name
}
