package devpostgres

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// fakePostgres makes a folder that looks like one with the programs of the version.
func fakePostgres(t *testing.T, root, dir string, major int) string {
	t.Helper()
	dir = filepath.Join(root, dir)
	require.NoError(t, os.MkdirAll(dir, 0o755))
	for _, program := range []string{"postgres", "initdb"} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, program), fmt.Append(nil, major), 0o755))
	}
	return dir
}

// fakeInspect reads the version instead of running the program.
func fakeInspect(dir string) (binaries, error) {
	content, err := os.ReadFile(filepath.Join(dir, "postgres"))
	if err != nil {
		return binaries{}, err
	}
	var major int
	if _, err := fmt.Sscan(string(content), &major); err != nil || major < minMajor {
		return binaries{}, fmt.Errorf("%s: too old", dir)
	}
	return binaries{dir: dir, major: major}, nil
}

func TestSearch_find(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	fakePostgres(t, root, "bin", 16)
	fakePostgres(t, root, "old/bin", 9)
	fakePostgres(t, root, "lib/9/bin", 9)
	fakePostgres(t, root, "lib/15/bin", 15)
	fakePostgres(t, root, "lib/17/bin", 17)
	fakePostgres(t, root, "brew/postgresql@18/bin", 18)
	fakePostgres(t, root, "cache/bin", 20)
	require.NoError(t, os.MkdirAll(filepath.Join(root, "empty"), 0o755))

	lib, brew := root+"/lib/*/bin", root+"/brew/postgresql@*/bin"
	for name, tc := range map[string]struct {
		search  search
		want    int
		dir     string
		failure string
	}{
		"the named folder only":          {search{binDir: root + "/lib/15/bin", path: []string{root + "/bin"}}, 0, "lib/15/bin", ""},
		"the named folder is wrong":      {search{binDir: root + "/empty", path: []string{root + "/bin"}}, 0, "", "no such file"},
		"PATH first":                     {search{path: []string{root + "/empty", root + "/bin"}, versions: []string{lib}}, 0, "bin", ""},
		"the highest version":            {search{versions: []string{lib, brew}}, 0, "brew/postgresql@18/bin", ""},
		"the cache last":                 {search{versions: []string{lib}, cache: []string{root + "/cache/bin"}}, 0, "lib/17/bin", ""},
		"the cache alone":                {search{cache: []string{root + "/cache/bin"}}, 0, "cache/bin", ""},
		"the version of the data":        {search{path: []string{root + "/bin"}, versions: []string{lib}}, 15, "lib/15/bin", ""},
		"the version of the data is not": {search{path: []string{root + "/bin"}, versions: []string{lib}}, 14, "", "written by PostgreSQL 14"},
		"too old":                        {search{path: []string{root + "/old/bin"}}, 0, "", "too old"},
		"none":                           {search{path: []string{root + "/empty"}}, 0, "", errNoPostgres.Error()},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tc.search.inspect = fakeInspect
			found, err := tc.search.find(tc.want)
			if tc.failure != "" {
				require.ErrorContains(t, err, tc.failure)
				return
			}
			require.NoError(t, err)
			require.Equal(t, filepath.Join(root, tc.dir), found.dir)
		})
	}
}

func TestSearch_find_onlyUnfitCountsAsNone(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	s := search{path: []string{fakePostgres(t, root, "bin", 9)}, inspect: fakeInspect}
	_, err := s.find(0)
	require.True(t, errors.Is(err, errNoPostgres), "then installing one helps")
}

func TestMajorVersion(t *testing.T) {
	t.Parallel()
	require.Equal(t, 15, majorVersion("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)"))
	require.Equal(t, 18, majorVersion("postgres (PostgreSQL) 18.4"))
	require.Equal(t, 19, majorVersion("postgres (PostgreSQL) 19beta1"))
	require.Zero(t, majorVersion("mysqld 8"))
}

func TestMakeSymlinks(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	lib := filepath.Join(root, "native", "lib")
	require.NoError(t, os.MkdirAll(lib, 0o755))
	require.NoError(t, makeSymlinks(root), "a package without links")

	write := func(links string) {
		require.NoError(t, os.WriteFile(filepath.Join(root, "native", "pg-symlinks.json"), []byte(links), 0o600))
	}
	require.NoError(t, os.WriteFile(filepath.Join(lib, "libpq.so.5.18"), []byte("x"), 0o600))
	write(`[{"source":"native/lib/libpq.so.5.18","target":"native/lib/libpq.so.5"}]`)
	for range 2 {
		require.NoError(t, makeSymlinks(root))
	}
	to, err := os.Readlink(filepath.Join(lib, "libpq.so.5"))
	require.NoError(t, err)
	require.Equal(t, "libpq.so.5.18", to)

	write(`[{"source":"native/lib/libpq.so.5.18","target":"../../elsewhere"}]`)
	require.ErrorContains(t, makeSymlinks(root), "leads out")
}

func TestAccount_obstacle(t *testing.T) {
	t.Parallel()
	root := t.TempDir() // below a closed folder
	dir := filepath.Join(root, "a", "b")
	require.NoError(t, os.MkdirAll(dir, 0o755))
	stranger := account{uid: 54321, gid: 54321, switched: true}
	blocked := stranger.obstacle(dir)
	require.NotEmpty(t, blocked)
	require.True(t, strings.HasPrefix(root, blocked), blocked)
	require.Empty(t, stranger.obstacle("/usr/no/such/folder"))
	require.Empty(t, account{}.obstacle(dir), "no other user, no obstacle")
}
