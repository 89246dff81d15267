package stripesim

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// stateFormat is the format of the state file. Whoever changes an exported field
// of a stored type raises it: to guess at another format would lose objects
// that a product's database points at.
const stateFormat = 3

// snapshot is the simulator as the state file holds it. It points into the
// simulator: encoding it reads the account, decoding into it restores it.
//
// What is not here is configuration, which each run brings along, or follows
// from the rest.
type snapshot struct {
	Format        int
	Products      *[]*product
	Prices        *[]*price
	Customers     *[]*customer
	Sessions      *[]*checkoutSession
	Subscriptions *[]*subscription
	Schedules     *[]*schedule
	Invoices      *[]*invoice
	InvoiceItems  *[]*invoiceItem
	Intents       *[]*paymentIntent
	Charges       *[]*charge
	Refunds       *[]*refund
	Disputes      *[]*dispute
	Portals       *[]*portalSession
	Events        *[]*event
	Configs       *[]*portalConfig
	Remembered    *map[string]remembered
	Skew          *time.Duration
	Dunning       *Dunning
	Endpoints     *[]*endpoint
	Version       *string
}

func (s *Sim) snapshot() *snapshot {
	return &snapshot{
		Format: stateFormat, Products: &s.products.items, Prices: &s.prices.items, Customers: &s.customers.items,
		Sessions: &s.sessions.items, Subscriptions: &s.subscriptions.items, Invoices: &s.invoices.items,
		Schedules:    &s.schedules.items,
		InvoiceItems: &s.items.items, Intents: &s.intents.items, Charges: &s.charges.items,
		Refunds: &s.refunds.items, Disputes: &s.disputes.items,
		Portals: &s.portals.items, Events: &s.events.items, Configs: &s.configs.items, Remembered: &s.remembered,
		Skew: &s.skew, Dunning: &s.dunning,
		Endpoints: &s.endpoints.items, Version: &s.version,
	}
}

// load restores the account from the state file, if there is one.
func (s *Sim) load() error {
	if s.stateFile == "" {
		return nil
	}
	removeLeftovers(s.stateFile)
	content, err := os.ReadFile(s.stateFile)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("read the state: %w", err) // names the file
	}
	if err := s.restore(content); err != nil {
		return fmt.Errorf("state file %s: %w; move it away to start afresh", s.stateFile, err)
	}
	s.saved = content
	return nil
}

func (s *Sim) restore(content []byte) error {
	var header struct{ Format int }
	if err := json.Unmarshal(content, &header); err != nil {
		return fmt.Errorf("damaged: %w", err)
	}
	if header.Format != stateFormat {
		return fmt.Errorf("has format %d where %d is known", header.Format, stateFormat)
	}
	// A field that is unknown here would be gone at the next save.
	dec := json.NewDecoder(bytes.NewReader(content))
	dec.DisallowUnknownFields()
	if err := dec.Decode(s.snapshot()); err != nil {
		return fmt.Errorf("damaged: %w", err)
	}
	if err := s.index(); err != nil {
		return fmt.Errorf("damaged: %w", err)
	}
	if err := s.relink(); err != nil {
		return fmt.Errorf("damaged: %w", err)
	}
	s.ids.reserve(content)
	return nil
}

func (s *Sim) index() error {
	return cmp.Or(
		s.products.index(), s.prices.index(), s.customers.index(), s.sessions.index(),
		s.subscriptions.index(), s.schedules.index(), s.invoices.index(), s.items.index(), s.intents.index(), s.charges.index(), s.refunds.index(), s.disputes.index(), s.endpoints.index(), s.portals.index(), s.configs.index(), s.events.index(),
	)
}

// save writes the account to the state file if that says otherwise. To compare
// the whole costs little at the sizes of development, and unlike a mark that
// each change must set it cannot be forgotten. The caller holds mu.
//
// After a failure the file is behind the account, and every later save tries
// again.
func (s *Sim) save() error {
	if s.stateFile == "" {
		return nil
	}
	content := encodeIndented(s.snapshot(), "")
	if bytes.Equal(content, s.saved) {
		return nil
	}
	if err := writeWhole(s.stateFile, content); err != nil {
		s.log.Error("stripe simulator cannot save its state", "file", s.stateFile, "error", err)
		return fmt.Errorf("save the state in %s: %w", s.stateFile, err)
	}
	s.saved = content
	return nil
}

// writeWhole replaces a file so that a crash at any moment leaves the old or the
// new content. The temporary file is next to it because a rename is atomic only
// within a file system.
func writeWhole(path string, content []byte) error {
	temp, err := os.CreateTemp(filepath.Dir(path), tempPrefix(path)+"*") // mode 0600
	if err != nil {
		return err
	}
	_, err = temp.Write(content)
	// Without Sync a power failure may leave the new name with no content.
	if err = errors.Join(err, temp.Sync(), temp.Close()); err == nil {
		err = os.Rename(temp.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(temp.Name()))
	}
	return nil
}

func tempPrefix(path string) string { return "." + filepath.Base(path) + "-" }

// removeLeftovers removes the temporary files of processes killed as they wrote.
// They are in nobody's way, so it does not matter if that fails.
func removeLeftovers(path string) {
	folder := filepath.Dir(path)
	entries, _ := os.ReadDir(folder)
	for _, entry := range entries {
		if strings.HasPrefix(entry.Name(), tempPrefix(path)) {
			_ = os.Remove(filepath.Join(folder, entry.Name()))
		}
	}
}
