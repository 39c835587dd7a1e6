//go:build !linux

package main

import "errors"

var errLinux = errors.New("only on Linux can volumes be mounted")

func mount(string, string, bool) error { return errLinux }

func unmount(string) error { return errLinux }
