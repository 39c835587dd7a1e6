package cluster

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
)

// Records returns the numbers that a guest with the WritesAnnotation wrote to a disk, given the file with the disk's
// bytes. The format is that of components/kubevirt/handler.
func Records(disk string) ([]int64, error) {
	file, err := os.Open(disk)
	if err != nil {
		return nil, fmt.Errorf("reading a guest's records: %w", err)
	}
	defer file.Close()
	var numbers []int64
	record, records := make([]byte, 16), bufio.NewReader(file)
	for {
		_, err := io.ReadFull(records, record)
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return numbers, nil
		}
		if err != nil {
			return nil, fmt.Errorf("reading a guest's records: %w", err)
		}
		number, err := strconv.ParseInt(strings.TrimSuffix(string(record), "\n"), 10, 64)
		if err != nil {
			return numbers, nil //nolint:nilerr // what is no record ends the records
		}
		numbers = append(numbers, number)
	}
}
