# Licensed under the Apache License, Version 2.0; see LICENSE.
#
# An old copy of the cache is brought to another machine, whose users have other ids. The log says which
# command gives it to the server; after that valid certificates are served at once, expired ones are
# renewed within the budget, by the same account, each once.

use strict;
use warnings;

use Apache::Test qw(-withtestmore);
use File::Find ();

use Autocert::Client qw(handshake make_ca issue_pair cache_value);
use Autocert::Events qw(events count_events vhosts all_stored);
use Autocert::Pebble;
use Autocert::Server;
use Autocert::Util qw(wait_until slurp run_program);

use constant {
    OBTAIN_SECONDS => 60,
    STRANGER       => 54_321,     # a user id that nobody has here
    IDLE_SECONDS   => 1,
    DAY            => 86_400,
    BUDGET         => 3,
};

if ($> != 0) {
    plan tests => 1;
    fail 'only root can give files to another user: run this as root';
    exit 1;
}

my @valid = map { "valid$_.example.test" } 1 .. 3;
my @expired = map { "old$_.example.test" } 1 .. 5;
my $pebble = Autocert::Pebble->new->start;
my $first = Autocert::Server->with_ca($pebble, config => vhosts(@valid));
ok $first->start, 'httpd starts on the old machine' or exit 1;
ok all_stored($first, OBTAIN_SECONDS, @valid), 'and obtains' or exit 1;
my $account = slurp($first->cache_file('acme_account+key'));
my %serial = map { $_ => handshake(port => $first->https, sni => $_)->{serial} } @valid;
ok $first->stop, 'it stops';
my $old_ca = make_ca('a CA of old');
$first->cache_put($_, cache_value(issue_pair($old_ca, [$_], not_before => -91 * DAY, not_after => -DAY)))
    for @expired;

# The copy, as tar makes it for root: numbers of users are kept.
my $second = Autocert::Server->with_ca($pebble, ca_keys => 'orders=' . BUDGET . '/1h',
    config => vhosts(@valid, @expired));
is system('cp', '-a', $first->cache, $second->cache), 0, 'the cache is copied';
File::Find::find(sub { chown STRANGER, STRANGER, $_ or die "chown $_: $!\n" }, $second->cache);
my $orders = $pebble->orders;
my $mark = $second->mark;
ok $second->start, 'httpd starts on the new machine although it can read none of it' or exit 1;
my $told = $second->wait_for_log(qr/(AC0\d+: autocert: [^\n]*chown[^\n]*)/, 30);
ok $told, 'the log says what to do' or exit 1;
my ($command) = $told =~ /"(chown -R [^"]+)"/;
ok $command, 'a command' or diag $told;
like $command, qr/\Q@{[$second->cache]}\E/, 'for this cache';
is $pebble->orders, $orders, 'nothing is ordered meanwhile';
is slurp($second->cache_file('acme_account+key')), $account, 'the account key is what it was';
my ($status, $output) = run_program(['sh', '-c', $command]);
is $status, 0, 'it is run' or diag $output;

ok wait_until(30, sub {
    return !grep { !handshake(port => $second->https, sni => $_, ca => $pebble->root)->{ok} } @valid;
}), 'valid certificates are served, without a restart';
is_deeply { map { $_ => handshake(port => $second->https, sni => $_)->{serial} } @valid }, \%serial,
    'the very same';
ok wait_until(OBTAIN_SECONDS, sub { count_events($second, 'AC0110') == BUDGET }),
    'expired ones are renewed as far as the budget goes';
wait_until(IDLE_SECONDS, sub { $pebble->orders > $orders + BUDGET });
is $pebble->orders, $orders + BUDGET, 'and no further';
my %renewed;
$renewed{ $_->{name} }++ for events($second, 'AC0110');
is scalar(grep { $_ != 1 } values %renewed), 0, 'each once';
is scalar(grep { my $name = $_; !grep { $_ eq $name } @expired } keys %renewed), 0,
    'none of the valid ones';
my ($accounts) = $pebble->log =~ /.*There are now (\d+) accounts in memory/s;
is $accounts, 1, 'by the same account';
is slurp($second->cache_file('acme_account+key')), $account, 'with the same key';
my $restart = $pebble->orders;
ok $second->restart, 'a restart' or exit 1;
ok wait_until(30, sub { count_events($second, 'AC0131', $second->mark) || count_events($second, 'AC0131') > 1 }),
    'knows that the budget is used up';
is $pebble->orders, $restart, 'and orders nothing';
ok $second->stop, 'httpd stops';

done_testing;
