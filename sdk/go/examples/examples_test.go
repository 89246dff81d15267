package examples_test

import (
	"bufio"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// build compiles an example.
func build(t *testing.T, name string) string {
	t.Helper()
	if os.Getenv("KEYMETER_URL") == "" {
		t.Fatal("KEYMETER_URL is not set: run scripts/sdk-go")
	}
	program := filepath.Join(t.TempDir(), name)
	if out, err := exec.Command("go", "build", "-o", program, "./"+name).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return program
}

// The examples that end print what they should.
func TestPrograms(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"firstkey": `created Acme on free with First key
refused: expiresInDays must be at most 365
created Production Key
revoked: true
revoked before: true
`,
		"verify": `serve: spent 94
recorded 6 duplicate: false
recorded 6 duplicate: true
recorded 5
refused: true
`,
		"paging": `(Customer \d
- grant 500 promotional
- grant 2500 monthly
){3}`,
	} {
		t.Run(name, func(t *testing.T) { // one after the other, as the accounts are newest first
			out, err := exec.Command(build(t, name)).CombinedOutput()
			if err != nil || !regexp.MustCompile("^"+want+"$").Match(out) {
				t.Fatalf("%v: %s", err, out)
			}
		})
	}
}

// The gateways serve who has a key, and nobody else.
func TestGateways(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"gateway", "echogateway"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			address := start(t, build(t, name))
			key := os.Getenv("KEYMETER_API_KEY")
			check(t, http.MethodGet, address+"/v1/search", key, 200, `^found for acct_\w+ at 2 credits\n$`)
			check(t, http.MethodGet, address+"/v1/search", "nonsense", 401, `"code":"invalid_credential"`)
			check(t, http.MethodGet, address+"/v1/search", "", 401, `"code":"missing_credential"`)
			if name == "gateway" {
				check(t, http.MethodPost, address+"/v1/speak?text="+url.QueryEscape(strings.Repeat("x", 1200)), key, 200, `^spoken at 94 credits\n$`)
				check(t, http.MethodPost, address+"/v1/speak?text="+strings.Repeat("x", 40_000), key, 402, `"code":"credits_exhausted"`)
				check(t, http.MethodPost, address+"/v1/chat", key, 200, `^hello\nat 8 credits\n$`)
			}
		})
	}
}

// start runs a program until the test ends, and returns where it listens.
func start(t *testing.T, program string) string {
	t.Helper()
	cmd := exec.Command(program)
	cmd.Env = append(os.Environ(), "ADDR=127.0.0.1:0")
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	line, err := bufio.NewReader(out).ReadString('\n')
	address, found := strings.CutPrefix(strings.TrimSpace(line), "listening on ")
	if err != nil || !found {
		t.Fatal(err, line)
	}
	return "http://" + address
}

func check(t *testing.T, method, address, key string, status int, want string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, address, nil)
	if err != nil {
		t.Fatal(err)
	}
	if key != "" {
		req.Header.Set("Authorization", "Bearer "+key)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != status || !regexp.MustCompile(want).Match(body) {
		t.Fatalf("%v: %d %s", err, resp.StatusCode, body)
	}
}

// What the README shows is in the examples, line by line and in order, so that it compiles and runs.
func TestReadme(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob("*/main.go")
	if err != nil {
		t.Fatal(err)
	}
	var examples []string
	for _, file := range files {
		source, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		examples = append(examples, plain(string(source)))
	}
	blocks := regexp.MustCompile("(?s)```go\n(.*?)```").FindAllStringSubmatch(string(readme), -1)
	if len(blocks) < 5 {
		t.Fatalf("found only %d blocks of Go in the README", len(blocks))
	}
	for _, block := range blocks {
		if !strings.Contains(strings.Join(examples, "\n"), plain(block[1])) {
			t.Errorf("this is in no example:\n%s", block[1])
		}
	}
}

// plain is code without its indentation and without empty lines.
func plain(code string) string {
	var lines []string
	for line := range strings.Lines(code) {
		if line = strings.Join(strings.Fields(line), " "); line != "" {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "\n")
}
