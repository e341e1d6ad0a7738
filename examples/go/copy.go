// Copy a file through memory that usmd manages: every byte is stored in a region, and loaded from it again.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"usmd.example/usm"
	pb "usmd.example/usmv1"
)

const pagesACall = 16

var (
	address = flag.String("address", os.Getenv("USM_ADDRESS"), "the daemon's socket")
	admin   = flag.String("admin", "", "the operators' socket, to show the daemon's state in the end")
	hint    = flag.String("hint", "", "a hint on the region, as text; without it PRIORITY=HIGH")
)

func main() {
	flag.Usage = func() {
		fmt.Fprintln(flag.CommandLine.Output(), "usage: copy [flags] SOURCE TARGET")
		flag.PrintDefaults()
	}
	flag.Parse()
	if flag.NArg() != 2 {
		flag.Usage()
		os.Exit(2)
	}
	if err := run(context.Background(), flag.Arg(0), flag.Arg(1)); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// socketPath returns the absolute path of a socket that is given as unix:PATH or PATH.
func socketPath(address string) (string, error) {
	if address == "" {
		address = "/run/usmd/usmd.sock"
	}
	return filepath.Abs(strings.TrimPrefix(address, "unix:"))
}

func run(ctx context.Context, source, target string) (err error) {
	path, err := socketPath(*address)
	if err != nil {
		return err
	}
	session, err := usm.Attach(ctx, path, "go-copy")
	if err != nil {
		return err
	}
	defer func() {
		if closed := session.Close(ctx); err == nil {
			err = closed
		}
	}()
	fmt.Printf("attached as process %d: %s memory in pages of %d bytes\n",
		session.ProcessId, session.Mechanism, session.PageSize)

	bytes, err := os.ReadFile(source)
	if err != nil {
		return err
	}
	kept, err := through(ctx, session, bytes)
	if err != nil {
		return err
	}
	if err := os.WriteFile(target, kept, 0o666); err != nil {
		return err
	}
	fmt.Printf("copied %d bytes; %d faults yielded\n", len(kept), session.Yields())

	if *admin == "" {
		return nil
	}
	return showStatus(ctx)
}

// through stores all bytes in a region of the session, and loads them again.
func through(ctx context.Context, session *usm.Session, bytes []byte) ([]byte, error) {
	length := uint64(len(bytes))
	region, err := session.Map(ctx, length, "file")
	if err != nil {
		return nil, err
	}
	request := &pb.HintRegionRequest{RegionId: region.RegionId, Hint: &pb.HintRegionRequest_Text{Text: *hint}}
	if *hint == "" {
		fields := &pb.HintFields{Priority: pb.HintFields_PRIORITY_HIGH}
		request.Hint = &pb.HintRegionRequest_Fields{Fields: fields}
	}
	hinted, err := session.Hint(ctx, request)
	if err != nil {
		return nil, err
	}
	fmt.Printf("hint on %d pages\n", hinted.PageCount)

	step := uint64(session.PageSize) * pagesACall
	if most := uint64(session.MaxTransferBytes); step > most {
		step = most
	}
	for offset := uint64(0); offset < length; offset += step {
		if err := session.Store(ctx, region.RegionId, offset, bytes[offset:min(offset+step, length)]); err != nil {
			return nil, err
		}
	}
	kept := make([]byte, 0, length)
	for offset := uint64(0); offset < length; offset += step {
		part, err := session.Load(ctx, region.RegionId, offset, min(step, length-offset))
		if err != nil {
			return nil, err
		}
		kept = append(kept, part...)
	}
	return kept, nil
}

func showStatus(ctx context.Context) error {
	path, err := socketPath(*admin)
	if err != nil {
		return err
	}
	status, err := usm.Status(ctx, path)
	if err != nil {
		return err
	}
	fmt.Printf("usmd %s: %d of %d frames are free, %d pages went to swap\n",
		status.Version, status.FreeFrames, status.Frames, status.Counters["swap_outs"])
	return nil
}

func min(a, b uint64) uint64 {
	if a < b {
		return a
	}
	return b
}
