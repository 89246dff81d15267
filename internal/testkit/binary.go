package testkit

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

// binaries are the commands that this test process has built. Main removes them.
type binaries struct {
	mu   sync.Mutex
	dir  string
	path map[string]string
}

// built is package state because testing offers no other way from TestMain to a test.
var built = binaries{path: map[string]string{}}

// Binary builds a command of this module, such as "./cmd/keymeter", once, and returns where it is.
func Binary(tb testing.TB, pkg string) string {
	tb.Helper()
	path, err := built.get(pkg)
	if err != nil {
		tb.Fatal("testkit: ", err)
	}
	return path
}

func (b *binaries) get(pkg string) (string, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if path, ok := b.path[pkg]; ok {
		return path, nil
	}
	if b.dir == "" {
		dir, err := os.MkdirTemp("", "keymeter-bin-")
		if err != nil {
			return "", err
		}
		b.dir = dir
	}
	path := filepath.Join(b.dir, filepath.Base(pkg))
	cmd := exec.CommandContext(context.Background(), "go", "build", "-o", path, pkg)
	cmd.Dir = moduleRoot()
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build %s: %w\n%s", pkg, err, out)
	}
	b.path[pkg] = path
	return path, nil
}

func (b *binaries) remove() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.dir == "" {
		return nil
	}
	return os.RemoveAll(b.dir)
}
